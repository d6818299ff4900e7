package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// following opens streams of bills, weighs them, and measures how long a change of a
// bill that many follow takes to reach all of them.
func following(data string) error {
	path := filepath.Join(data, "pages.db")
	s, err := store.OpenSQLite(context.Background(), path)
	if err != nil {
		return err
	}
	others := max(1, (*clients-*watchers)/100)
	tokens := make([]string, 0, others+1)
	for i := range others + 1 {
		r := open(i)
		tokens = append(tokens, r.Token)
		if err := s.OpenBill(context.Background(), r, time.Now().Add(time.Hour), time.Now()); err != nil {
			return err
		}
	}
	if err := s.Close(); err != nil {
		return err
	}

	server, err := start(data, fmt.Sprintf(app, path), fmt.Sprintf(handlers, ""))
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	objects, stacks, err := server.live()
	if err != nil {
		return err
	}
	resident := server.memory()
	p := &pages{seen: make(chan struct{}, *watchers)}
	for i := range *clients {
		token := tokens[0]
		if i >= *watchers {
			token = tokens[1+i%others]
		}
		if err := p.follow(token, i < *watchers); err != nil {
			return fmt.Errorf("page %d: %w", i, err)
		}
	}
	for p.ready.Load() < int64(*clients) {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(5 * time.Second)
	most := server.memory()
	moreObjects, moreStacks, err := server.live()
	if err != nil {
		return err
	}
	n := float64(*clients)
	fmt.Printf("%d open pages, each: %.1f KiB of objects and %.1f KiB of stacks in use after a collection; %.1f KiB resident before it\n",
		*clients, (moreObjects-objects)/n, (moreStacks-stacks)/n, float64(most-resident)/n)
	server.save("pages")

	c, err := dial()
	if err != nil {
		return err
	}
	defer c.Close()
	delays := make([]float64, *changes)
	for i := range delays {
		from := &callbacks{bill: "followed-0"}
		from.n.Store(int64(i))
		began := time.Now()
		if err := c.do(from); err != nil {
			return err
		}
		for range *watchers {
			<-p.seen
		}
		delays[i] = float64(time.Since(began))
	}
	worst := delays[0]
	for _, d := range delays {
		worst = max(worst, d)
	}
	fmt.Printf("a change seen by all of %d pages, from sending the callback: median %v, longest of %d %v\n",
		*watchers, time.Duration(median(delays)).Round(time.Microsecond), *changes, time.Duration(worst).Round(time.Microsecond))
	p.close()
	return server.stop()
}

// open is a bill that waits for its money.
func open(i int) *store.Record {
	reference := fmt.Sprintf("followed-%d", i)
	due := decimal.NewFromInt(1_000_000)
	return &store.Record{
		Bill: &bill.Bill{ //nolint:gosec // the token is a number
			Token: fmt.Sprintf("%022d", i), Reference: reference, Account: "default", OrderID: "order-of-" + reference,
			Items: []bill.Item{{ID: "field-guide", Name: "Field guide", Quantity: 2, Price: "25.00"}}, Price: decimal.NewFromInt(50), Currency: "USD",
			Method: "usdt-trc20", TokenID: "0912e09a-d8e2-41d7-a0bc-a25530892988", Address: "TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt", Due: due,
			Pays:      bill.Token{Crypto: "USDT", Network: "TRC20", Chain: "TRX", Contract: "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"},
			CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour), Seq: 1,
		},
		Stage: store.Open, IdempotencyKey: reference,
	}
}

// pages are open streams.
type pages struct {
	ready atomic.Int64
	seen  chan struct{} // has one for each change that a watched page has seen

	mu   sync.Mutex
	open []net.Conn
}

func (p *pages) follow(token string, watched bool) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.open = append(p.open, c)
	p.mu.Unlock()
	if _, err := fmt.Fprintf(c, "GET /pay/bills/%s/events HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", token, address); err != nil {
		return err
	}
	go func() {
		r := bufio.NewReaderSize(c, 2048)
		first := true
		for {
			line, err := r.ReadSlice('\n')
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) { // the beginning is enough
				return
			}
			if !bytes.HasPrefix(line, []byte("data: {\"")) {
				continue
			}
			if first {
				first = false
				p.ready.Add(1)
			} else if watched {
				p.seen <- struct{}{}
			}
		}
	}()
	return nil
}

func (p *pages) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		_ = c.Close()
	}
}
