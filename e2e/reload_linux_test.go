package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestReload changes the options 50 times under traffic. A reload closes the listening
// socket of the old configuration and the idle connections on it, with any plugin and
// with none. What waits in the kernel for the old socket, or is sent at the moment its
// connection is closed, is dropped unread; the gateway comes again then, and so does
// the traffic here. But no connection is refused, whatever is answered is answered
// with success, nothing is lost or told twice, and nothing stays behind in the process.
func TestReload(t *testing.T) {
	seed := number(t, "SEED", uint64(time.Now().UnixNano()))
	t.Logf("SEED=%d", seed)
	shop, books := newReceiver(t), newReceiver(t)
	options := func(i int) settings {
		return settings{
			app: fmt.Sprintf("retain %dd\ntimeout %ds", 30+i, 5+i%7),
			webhook: fmt.Sprintf("tolerance %ds\nmax_body %dKiB\n", 120+i, 32+i) +
				shop.block("shop", fmt.Sprintf("%s\ntimeout %ds\nheader X-Round %d", patience, 5+i%5, i)) +
				books.block("books", patience),
		}
	}
	s := newServer(t, "")
	s.start(options(0))
	g := begin(t, s, seed, true)
	g.pause.Store(int64(20 * time.Millisecond))
	reload := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if err := s.load(options(i)); err != nil {
				t.Fatalf("reload %d: %v", i, err)
			}
			if i%10 == 9 {
				s.validate(options(i + 1000))
			}
		}
	}
	rest := func() {
		t.Helper()
		g.pause.Store(-1)
		s.settled()
	}
	reload(1, 6)
	rest()
	routines, files := s.goroutines(), s.files()
	g.pause.Store(int64(20 * time.Millisecond))
	reload(6, 56)
	rest()
	// Old configurations end in their own time. Some of 50 left would be a leak.
	eventually(t, fmt.Sprintf("there are hardly more than %d goroutines", routines), func() bool { return s.goroutines() < routines+25 })
	eventually(t, fmt.Sprintf("there are hardly more than %d open files", files), func() bool { return s.files() < files+25 })
	t.Logf("%d and %d goroutines, %d and %d open files", routines, s.goroutines(), files, s.files())

	g.pause.Store(0)
	g.end()
	s.settled()
	for name, u := range map[string]*receiver{"shop": shop, "books": books} {
		if again := u.check(g.sent); again > 0 {
			t.Errorf("%s was told %d events again after it had taken them", name, again)
		}
	}
	s.stop()
	g.stored()
	g.counted()
	s.intact()
	t.Logf("%d callbacks were answered, %d requests broke off", len(g.answered), g.broken.Load())
}

// validate runs "caddy validate" beside the server.
func (s *server) validate(c settings) {
	s.t.Helper()
	path := filepath.Join(s.dir, "Caddyfile.new")
	if err := os.WriteFile(path, []byte(s.config(c)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	out, err := s.command("validate", "--adapter", "caddyfile", "--config", path).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("Valid configuration")) {
		s.t.Errorf("caddy validate: %v\n%s", err, out)
	}
}

var total = regexp.MustCompile(`goroutine profile: total (\d+)`)

func (s *server) goroutines() int {
	s.t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/goroutine?debug=1", s.admin))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	m := total.FindSubmatch(text)
	if m == nil {
		s.t.Fatalf("not a profile: %.200s", text)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// files counts the open files of the process.
func (s *server) files() int {
	s.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(list)
}

// TestASecondProcessWaitsForTheStore is a rolling restart: the new process starts
// while the old one still has the store.
func TestASecondProcessWaitsForTheStore(t *testing.T) {
	for name, end := range map[string]func(*server){
		"the first ends":      func(s *server) { s.stop() },
		"the first is killed": func(s *server) { s.kill() },
	} {
		t.Run(name, func(t *testing.T) {
			u := newReceiver(t)
			// The first cannot deliver; the second can.
			u.answering(func(arrival, http.ResponseWriter, *http.Request) int { return http.StatusServiceUnavailable })
			c := settings{webhook: u.block("shop", patience)}
			first := newServer(t, "")
			first.start(c)
			sent := map[string][]callback{"a": {{"a", "1", "success"}}, "b": {{"b", "1", "pending"}}}
			first.accept(sent["a"][0])

			second := newServer(t, first.store)
			second.start(c)
			const message = "waiting for the store, which another process has open; is Caddy running twice?"
			eventually(t, "the second says what is the matter", func() bool {
				return strings.Contains(second.output(), message) && strings.Contains(second.output(), first.store)
			})
			if status, answer, err := second.send(http.DefaultClient, sent["b"][0]); err != nil || status != http.StatusServiceUnavailable || answer != "" {
				t.Errorf("meanwhile a callback is answered with %d %q, %v", status, answer, err)
			}
			second.validate(c)
			if err := second.load(settings{webhook: c.webhook + "tolerance 3m"}); err != nil {
				t.Errorf("meanwhile it cannot be given another configuration: %v", err)
			}
			if n := strings.Count(second.output(), message); n != 1 {
				t.Errorf("it says so %d times", n)
			}

			end(first)
			u.answering(nil)
			eventually(t, "the second takes over", func() bool {
				status, _, err := second.send(http.DefaultClient, sent["b"][0])
				return err == nil && status == http.StatusOK
			})
			if !strings.Contains(second.output(), "opened the store after waiting for another process") {
				t.Error("the second does not say that it has the store")
			}
			second.settled()
			u.check(sent)
			second.stop()
			second.intact()
		})
	}
}

// TestASecondProcessThatGivesUp must leave the store to the first.
func TestASecondProcessThatGivesUp(t *testing.T) {
	u := newReceiver(t)
	c := settings{webhook: u.block("shop", patience)}
	first := newServer(t, "")
	first.start(c)
	second := newServer(t, first.store)
	second.start(c)
	second.stop()
	sent := map[string][]callback{"a": {{"a", "1", "success"}}}
	first.accept(sent["a"][0])
	first.settled()
	u.check(sent)
}
