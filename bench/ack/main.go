// Command ack measures what it costs to acknowledge a callback: signature, parsing,
// and the commit to disk before the answer. It starts Caddy and sends the same
// signed requests to ccpayment_webhook and to Caddy's own
// respond "success" on the same server; then it sends one at a time.
//
//	go build -o bin/caddy ./cmd/caddy && go run ./bench/ack -caddy bin/caddy
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	address = "127.0.0.1:9180"
	appID   = "202302010636261620672405236006912"
	secret  = "00112233445566778899aabbccddeeff"
)

const config = `{
	admin 127.0.0.1:9181
	auto_https off
	persist_config off
	log {
		level ERROR
	}
	storage file_system %[1]s
	ccpayment {
		app_id %[2]s
		app_secret %[3]s
		api v1
		endpoint http://127.0.0.1:9/v1
		store sqlite %[1]s/ccpayment.db
	}
}
http://127.0.0.1:9180 {
	handle /respond {
		respond "success"
	}
	handle /hooks {
		ccpayment_webhook {
			%[4]s
		}
	}
}
http://127.0.0.1:9182 {
	respond 204
}
`

var (
	caddy    = flag.String("caddy", "bin/caddy", "the program to measure, from ./cmd/caddy")
	conns    = flag.Int("conns", 64, "connections")
	seconds  = flag.Int("seconds", 5, "length of one turn")
	turns    = flag.Int("turns", 3, "turns of each kind")
	alone    = flag.Int("alone", 2000, "callbacks sent one at a time")
	rest     = flag.Duration("rest", 20*time.Second, "pause for working off the load, before callbacks are sent alone")
	dir      = flag.String("dir", ".", "where the store is made and removed")
	upstream = flag.Bool("upstream", false, "also deliver every event to an upstream on the same Caddy")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	data, err := os.MkdirTemp(*dir, "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	if data, err = filepath.Abs(data); err != nil {
		return err
	}
	option := ""
	if *upstream {
		option = "upstream http://127.0.0.1:9182/events"
	}
	file := filepath.Join(data, "Caddyfile")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, data, appID, secret, option), 0o600); err != nil {
		return err
	}
	sync, err := fsync(data)
	if err != nil {
		return err
	}
	fmt.Printf("a write of 4 KiB and fsync: median %v\n", sync)

	server := exec.CommandContext(context.Background(), *caddy, "run", "--adapter", "caddyfile", "--config", file)
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		return err
	}
	defer func() {
		_ = server.Process.Signal(os.Interrupt)
		_ = server.Wait()
	}()
	if err := ready(); err != nil {
		return err
	}

	c := &callbacks{}
	if _, err := load("/respond", c, time.Second); err != nil { // warm up
		return err
	}
	rates := map[string][]float64{}
	// All turns of respond come first: what follows from callbacks is worked off
	// after they are answered, and would slow down whoever comes next.
	for _, path := range []string{"/respond", "/hooks"} {
		for range *turns {
			before := cpu(server.Process.Pid)
			n, err := load(path, c, time.Duration(*seconds)*time.Second)
			if err != nil {
				return err
			}
			used := cpu(server.Process.Pid) - before
			rate := float64(n) / float64(*seconds)
			fmt.Printf("%-9s %d connections: %8.0f/s, %v of processor time each\n", path, *conns, rate, (used / time.Duration(n)).Round(100*time.Nanosecond))
			rates[path] = append(rates[path], rate)
		}
	}
	respond, hooks := median(rates["/respond"]), median(rates["/hooks"])
	fmt.Printf("median of %d turns: respond %.0f/s, webhook %.0f/s, ratio %.2f\n", *turns, respond, hooks, hooks/respond)

	time.Sleep(*rest)
	for _, path := range []string{"/respond", "/hooks"} {
		times, err := single(path, c)
		if err != nil {
			return err
		}
		fmt.Printf("%-9s alone: median %v, 99th percentile %v\n", path, times[len(times)/2], times[len(times)*99/100])
	}
	return nil
}

// callbacks makes requests, each with a record of its own.
type callbacks struct{ n atomic.Int64 }

func (c *callbacks) next(buf []byte, path string) []byte {
	record := strconv.FormatInt(c.n.Add(1), 10)
	body := `{"pay_status":"success","order_type":"API Deposit","record_id":"` + record + `","order_id":"202302200951001627606736097771520","product_price":"25","denominated_currency":"USD","order_amount":"25","fiat_rate":"0.08","paid_amount":"10","token_rate":"0.08","chain":"BSC","txid":"0xbA2aE424d96c32edC70B295c744C43","contract":"0xbA2aE424d960c26247Dd6c32edC70B295c744C43","crypto":"DOGE","extend":{"merchant_order_id":"order-` + record + `"}}`
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	sum := sha256.Sum256([]byte(appID + secret + timestamp + body))
	return fmt.Appendf(buf[:0], "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json; charset=utf-8\r\nAppid: %s\r\nTimestamp: %s\r\nSign: %s\r\nContent-Length: %d\r\n\r\n%s",
		path, address, appID, timestamp, hex.EncodeToString(sum[:]), len(body), body)
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

func (c *connection) do(path string, from *callbacks) error {
	c.buf = from.next(c.buf, path)
	if _, err := c.Write(c.buf); err != nil {
		return err
	}
	status, err := c.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.Contains(status, []byte(" 200 ")) {
		return fmt.Errorf("%s answered %s", path, status)
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
		return fmt.Errorf("%s answered %q", path, body)
	}
	return nil
}

// load keeps all connections busy for a time and counts the answers.
func load(path string, from *callbacks, d time.Duration) (int64, error) {
	var (
		wg     sync.WaitGroup
		n      atomic.Int64
		failed atomic.Pointer[error]
		end    = time.Now().Add(d)
	)
	for range *conns {
		wg.Go(func() {
			c, err := dial()
			if err == nil {
				defer c.Close()
				for err == nil && time.Now().Before(end) {
					if err = c.do(path, from); err == nil {
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

// cpu is the processor time a process has used so far, in user and kernel mode.
func cpu(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The fields after the name in parentheses; times are in hundredths of a second.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	user, _ := strconv.Atoi(string(fields[11]))
	system, _ := strconv.Atoi(string(fields[12]))
	return time.Duration(user+system) * 10 * time.Millisecond
}

// single sends one request after the other and returns their times, sorted.
func single(path string, from *callbacks) ([]time.Duration, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	times := make([]time.Duration, *alone)
	for i := range times {
		start := time.Now()
		if err := c.do(path, from); err != nil {
			return nil, err
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times, nil
}

// fsync measures the disk that everything waits for.
func fsync(dir string) (time.Duration, error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := make([]byte, 4096)
	times := make([]time.Duration, 500)
	for i := range times {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

func ready() error {
	for range 200 {
		resp, err := http.Post("http://"+address+"/respond", "text/plain", http.NoBody) //nolint:noctx // a probe of our own server
		if err == nil {
			resp.Body.Close()
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("caddy does not answer")
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
