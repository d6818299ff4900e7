// Command scale measures what becomes of the program when much is stored and many
// pages are open: the rate of acknowledging callbacks with few and with many stored
// events, the start with a long queue, and the memory and the delay of those who
// follow bills.
//
//	go build -o bin/caddy ./cmd/caddy && go run ./bench/scale -caddy bin/caddy
package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	_ "modernc.org/sqlite" // to fill stores

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

const (
	address = "127.0.0.1:9180"
	appID   = "202302010636261620672405236006912"
	secret  = "00112233445566778899aabbccddeeff"
)

const plain = `{
	admin 127.0.0.1:9181
	auto_https off
	persist_config off
	log {
		level ERROR
	}
	storage file_system %[1]s
	%[2]s
}
http://127.0.0.1:9180 {
	%[3]s
	handle {
		respond "success"
	}
}
`

const app = `ccpayment {
		app_id ` + appID + `
		app_secret ` + secret + `
		api v1
		endpoint http://127.0.0.1:9/v1
		reconcile off
		store sqlite %s
	}`

const handlers = `handle /hooks {
		ccpayment_webhook {
			%s
		}
	}
	handle /pay/* {
		ccpayment_bill {
			product field-guide 25.00
			method usdt-trc20 0912e09a-d8e2-41d7-a0bc-a25530892988
		}
	}`

var (
	caddy    = flag.String("caddy", "bin/caddy", "the program to measure, from ./cmd/caddy")
	dir      = flag.String("dir", ".", "where stores are made and removed")
	parts    = flag.String("parts", "ack,start,pages", "what to measure")
	few      = flag.Int("few", 1000, "stored events at the least")
	many     = flag.Int("many", 1_000_000, "stored events at the most")
	pending  = flag.Int("pending", 100_000, "events that are not delivered at the start")
	conns    = flag.Int("conns", 64, "connections that send callbacks")
	seconds  = flag.Int("seconds", 3, "length of one turn")
	turns    = flag.Int("turns", 5, "turns of each kind")
	alone    = flag.Int("alone", 1000, "callbacks sent one at a time")
	clients  = flag.Int("clients", 10_000, "pages that follow a bill")
	watchers = flag.Int("watchers", 1000, "how many of them follow the same one")
	changes  = flag.Int("changes", 20, "changes of the bill that many follow")
	profile  = flag.String("profile", "", "a directory for profiles of the program")
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
	for part := range strings.SplitSeq(*parts, ",") {
		measure := map[string]func(string) error{"ack": acknowledging, "start": starting, "pages": following}[part]
		if measure == nil {
			return fmt.Errorf("no part is called %q", part)
		}
		if err := measure(data); err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
	}
	return nil
}

// acknowledging compares the rate and the time of an acknowledgement with few and
// with many stored events, in turns.
func acknowledging(data string) error {
	large := filepath.Join(data, "large.db")
	if err := fill(large, *many, 0); err != nil {
		return err
	}
	rates, medians := map[int][]float64{}, map[int][]float64{}
	from := &callbacks{}
	for range *turns {
		for _, n := range []int{*few, *many} {
			path := large
			if n == *few { // what a turn has added is gone with the store
				path = filepath.Join(data, "small.db")
				if err := fill(path, n, 0); err != nil {
					return err
				}
			}
			s, err := start(data, fmt.Sprintf(app, path), fmt.Sprintf(handlers, ""))
			if err != nil {
				return err
			}
			if _, err := load(from, *conns, time.Second); err != nil {
				return err
			}
			if err := worked(path); err != nil {
				return err
			}
			before := s.cpu()
			answered, err := load(from, *conns, time.Duration(*seconds)*time.Second)
			if err != nil {
				return err
			}
			rate, used := float64(answered)/float64(*seconds), s.cpu()-before
			if err := worked(path); err != nil {
				return err
			}
			times, err := single(from, *alone)
			if err != nil {
				return err
			}
			middle := times[len(times)/2]
			fmt.Printf("%9d events stored: %6.0f/s with %d connections, %v of processor time each; alone, median %v, 99th percentile %v\n",
				n, rate, *conns, (used / time.Duration(answered)).Round(100*time.Nanosecond), middle, times[len(times)*99/100])
			rates[n], medians[n] = append(rates[n], rate), append(medians[n], float64(middle))
			if err := worked(path); err != nil {
				return err
			}
			if err := s.stop(); err != nil {
				return err
			}
			if n == *few {
				for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
					_ = os.Remove(path + suffix)
				}
			}
		}
	}
	fmt.Printf("median of %d turns: %.0f/s and %v with %d events, %.0f/s and %v with %d; ratios %.3f and %.3f\n", *turns,
		median(rates[*few]), time.Duration(median(medians[*few])), *few,
		median(rates[*many]), time.Duration(median(medians[*many])), *many,
		median(rates[*many])/median(rates[*few]), median(medians[*many])/median(medians[*few]))
	return os.Remove(large)
}

// starting measures how soon a program with a long queue takes callbacks, and its
// memory while it works at that queue. The upstream is not there.
func starting(data string) error {
	s, err := start(data, "", "")
	if err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	own := s.memory()
	if err := s.stop(); err != nil {
		return err
	}
	path := filepath.Join(data, "queue.db")
	if err := fill(path, *many, *pending); err != nil {
		return err
	}
	for range *turns {
		began := time.Now()
		s, err := start(data, fmt.Sprintf(app, path), fmt.Sprintf(handlers, "upstream http://127.0.0.1:9/events {\nname shop\n}"))
		if err != nil {
			return err
		}
		from := &callbacks{}
		from.n.Store(began.UnixNano())
		if _, err := single(from, 1); err != nil {
			return err
		}
		took := time.Since(began)
		var most int64
		for range 50 {
			time.Sleep(200 * time.Millisecond)
			most = max(most, s.memory())
		}
		fmt.Printf("start with %d events and %d pending deliveries: first callback acknowledged after %v; memory at most %.1f MiB above Caddy's own %.1f MiB\n",
			*many, *pending, took.Round(time.Millisecond), mib(most-own), mib(own))
		s.save("start")
		if err := s.stop(); err != nil {
			return err
		}
	}
	return os.Remove(path)
}

func mib(kib int64) float64 { return float64(kib) / 1024 }

// fill makes a store with events that happened over the last weeks, each with its
// callback and a delivery, and every tenth with a bill. The last ones are not
// delivered yet.
func fill(path string, events, pending int) error {
	s, err := store.OpenSQLite(context.Background(), path)
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(off)&_pragma=cache_size(-500000)")
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	const step = 50_000
	end := time.Now().UnixMilli()
	begin := end - 60*24*time.Hour.Milliseconds()
	envelope, body := strings.Repeat("x", 900), strings.Repeat("x", 600)
	for from := 0; from < events; from += step {
		to := min(from+step, events)
		numbers := fmt.Sprintf("WITH RECURSIVE n(i) AS (VALUES(%d) UNION ALL SELECT i+1 FROM n WHERE i < %d) ", from, to-1)
		at := fmt.Sprintf("(%d + i * %d / %d)", begin, end-begin, events)
		for _, insert := range []string{
			`INSERT INTO callbacks (account, kind, record_id, status, state, due_at, signed_at, received_at, resolved_at, body)
				` + numbers + `SELECT 'default', 'order', printf('1%015d', i), 'success', 'resolved', ` + at + `, ` + at + `, ` + at + `, ` + at + `, '` + body + `' FROM n`,
			`INSERT INTO events (id, account, type, subject, origin, occurred_at, envelope)
				` + numbers + `SELECT printf('evt_%08x%08x%016x', (i * 2654435761) & 4294967295, (i * 40503) & 65535, i), 'default', 'bill.paid', printf('stored-%d', i), 'callback', ` + at + `, '{"data":"` + envelope + `"}' FROM n`,
			fmt.Sprintf(`INSERT INTO deliveries (event, account, upstream, subject, state, tries, due_at, last_status, created_at, updated_at)
				`+numbers+`SELECT printf('evt_%%08x%%08x%%016x', (i * 2654435761) & 4294967295, (i * 40503) & 65535, i), 'default', 'shop', printf('stored-%%d', i),
				iif(i < %[1]d, 'delivered', 'pending'), iif(i < %[1]d, 1, 0), iif(i < %[1]d, NULL, `+at+`), iif(i < %[1]d, 200, 0), `+at+`, `+at+` FROM n`, events-pending),
			`INSERT INTO bills (reference, token, account, stage, idempotency_key, request_hash, order_id, items, note, price, currency, hosted, payment_url,
					method, token_id, crypto, network, chain, contract, address, memo, due, accept_short, status, confirming, paid, seq, created_at, expires_at, updated_at)
				` + numbers + `SELECT printf('stored-%d', i), lower(hex(randomblob(11))), 'default', 'open', printf('key-%d', i), '', printf('order-%d', i), '[]', '', '50', 'USD', 0, '',
				'usdt-trc20', '', 'USDT', 'TRC20', 'TRX', '', '', '', '50', '0', 'paid', 0, '50', 2, ` + at + `, ` + at + `, ` + at + ` FROM n WHERE i % 10 = 0`,
		} {
			if _, err := db.Exec(insert); err != nil {
				return fmt.Errorf("filling the store: %w", err)
			}
		}
	}
	_, err = db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

// worked waits until everything that follows from the callbacks is done.
func worked(path string) error {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=query_only(1)&_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer db.Close()
	for range 3000 {
		var left int
		if err := db.QueryRow("SELECT count(*) FROM callbacks WHERE state IN ('received', 'quarantined')").Scan(&left); err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("the callbacks are not resolved")
}

// A server is the program at work.
type server struct{ *exec.Cmd }

func start(data, app, handlers string) (*server, error) {
	file := filepath.Join(data, "Caddyfile")
	if err := os.WriteFile(file, fmt.Appendf(nil, plain, data, app, handlers), 0o600); err != nil {
		return nil, err
	}
	s := &server{exec.CommandContext(context.Background(), *caddy, "run", "--adapter", "caddyfile", "--config", file)}
	s.Stderr = os.Stderr
	if err := s.Start(); err != nil {
		return nil, err
	}
	for range 4000 {
		resp, err := http.Post("http://"+address+"/respond", "text/plain", http.NoBody) //nolint:noctx // a probe of our own server
		if err == nil {
			resp.Body.Close()
			return s, nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil, errors.New("caddy does not answer")
}

func (s *server) stop() error {
	if err := s.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	http.DefaultClient.CloseIdleConnections()
	return s.Wait()
}

// memory is the resident set of the process in KiB.
func (s *server) memory() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
	n, _ := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
	return n
}

// profiled fetches a profile of the heap after a collection.
func (s *server) profiled(query string) ([]byte, error) {
	resp, err := http.Get("http://127.0.0.1:9181/debug/pprof/heap?gc=1" + query) //nolint:noctx // our own server
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// live is what the process needs at least, in KiB: objects that are in use, and stacks.
// How often it collects decides how much comes on top of it.
func (s *server) live() (objects, stacks float64, err error) {
	for range 4 { // each collection halves stacks that have become too large
		text, err := s.profiled("&debug=1")
		if err != nil {
			return 0, 0, err
		}
		for name, kib := range map[string]*float64{"# HeapAlloc = ": &objects, "# Stack = ": &stacks} {
			_, rest, _ := bytes.Cut(text, []byte(name))
			n, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
			if err != nil {
				return 0, 0, err
			}
			*kib = float64(n) / 1024
		}
	}
	return objects, stacks, nil
}

// save keeps a profile of the heap, if profiles are wanted.
func (s *server) save(name string) {
	if *profile == "" {
		return
	}
	if text, err := s.profiled(""); err == nil {
		_ = os.WriteFile(filepath.Join(*profile, name+".pprof"), text, 0o600)
	}
}

// cpu is the processor time the process has used so far.
func (s *server) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Process.Pid))
	if err != nil {
		return 0
	}
	// The fields after the name in parentheses; times are in hundredths of a second.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	user, _ := strconv.Atoi(string(fields[11]))
	system, _ := strconv.Atoi(string(fields[12]))
	return time.Duration(user+system) * 10 * time.Millisecond
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
