package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// callbacks makes requests, each with a record of its own, about one bill or each
// about another.
type callbacks struct {
	n    atomic.Int64
	bill string
}

func (c *callbacks) next(buf []byte) []byte {
	record := strconv.FormatInt(c.n.Add(1), 10)
	reference := c.bill
	if reference == "" {
		reference = "order-" + record
	}
	body := `{"pay_status":"success","order_type":"API Deposit","record_id":"` + record + `","order_id":"202302200951001627606736097771520","product_price":"25","denominated_currency":"USD","order_amount":"25","fiat_rate":"0.08","paid_amount":"10","token_rate":"0.08","chain":"TRX","txid":"0xbA2aE424d96c32edC70B295c744C43","contract":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t","crypto":"USDT","extend":{"merchant_order_id":"` + reference + `"}}`
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	sum := sha256.Sum256([]byte(appID + secret + timestamp + body))
	return fmt.Appendf(buf[:0], "POST /hooks HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json; charset=utf-8\r\nAppid: %s\r\nTimestamp: %s\r\nSign: %s\r\nContent-Length: %d\r\n\r\n%s",
		address, appID, timestamp, hex.EncodeToString(sum[:]), len(body), body)
}

// connection sends requests and reads answers over one connection.
type connection struct {
	net.Conn
	r   *bufio.Reader
	buf []byte
}

func dial() (*connection, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &connection{Conn: c, r: bufio.NewReader(c)}, nil
}

func (c *connection) do(from *callbacks) error {
	c.buf = from.next(c.buf)
	if _, err := c.Write(c.buf); err != nil {
		return err
	}
	status, err := c.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.Contains(status, []byte(" 200 ")) {
		return fmt.Errorf("answered %s", status)
	}
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
	}
	var body [7]byte
	for i := range body {
		if body[i], err = c.r.ReadByte(); err != nil {
			return err
		}
	}
	if string(body[:]) != "success" {
		return fmt.Errorf("answered %q", body)
	}
	return nil
}

// load keeps all connections busy for a time and counts the answers.
func load(from *callbacks, conns int, d time.Duration) (int64, error) {
	var (
		wg     sync.WaitGroup
		n      atomic.Int64
		failed atomic.Pointer[error]
		end    = time.Now().Add(d)
	)
	for range conns {
		wg.Go(func() {
			c, err := dial()
			if err == nil {
				defer c.Close()
				for err == nil && time.Now().Before(end) {
					if err = c.do(from); err == nil {
						n.Add(1)
					}
				}
			}
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return n.Load(), nil
}

// single sends one request after the other and returns their times, sorted.
func single(from *callbacks, n int) ([]time.Duration, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	times := make([]time.Duration, n)
	for i := range times {
		start := time.Now()
		if err := c.do(from); err != nil {
			return nil, err
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times, nil
}
