package forward

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

func TestWhatFollowsFromAnAnswer(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a redirect was followed")
	}))
	defer elsewhere.Close()
	redirect := func(status int) func(http.ResponseWriter, *http.Request, message) {
		return func(w http.ResponseWriter, r *http.Request, _ message) { http.Redirect(w, r, elsewhere.URL, status) }
	}
	drip := func(w http.ResponseWriter, r *http.Request, status int) {
		w.WriteHeader(status)
		for r.Context().Err() == nil {
			io.WriteString(w, ".")
			w.(http.Flusher).Flush()
		}
	}

	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request, message)
		state  string
		status int
		error  string
	}{
		"200": {status(200), store.Delivered, 200, ""},
		"201": {status(201), store.Delivered, 201, ""},
		"202": {status(202), store.Delivered, 202, ""},
		"204": {status(204), store.Delivered, 204, ""},
		"299": {status(299), store.Delivered, 299, ""},
		"301": {redirect(301), store.PendingDelivery, 301, "answered with HTTP status 301"},
		"302": {redirect(302), store.PendingDelivery, 302, "answered with HTTP status 302"},
		"307": {redirect(307), store.PendingDelivery, 307, "answered with HTTP status 307"},
		"308": {redirect(308), store.PendingDelivery, 308, "answered with HTTP status 308"},
		"304": {status(304), store.PendingDelivery, 304, "answered with HTTP status 304"},
		"400": {status(400), store.PendingDelivery, 400, "answered with HTTP status 400"},
		"401": {status(401), store.PendingDelivery, 401, "answered with HTTP status 401"},
		"404": {status(404), store.PendingDelivery, 404, "answered with HTTP status 404"},
		"410": {status(410), store.Dead, 410, "answered with HTTP status 410, which asks for no more tries of this event"},
		"429": {status(429), store.PendingDelivery, 429, "answered with HTTP status 429"},
		"500": {status(500), store.PendingDelivery, 500, "answered with HTTP status 500"},
		"503": {status(503), store.PendingDelivery, 503, "answered with HTTP status 503"},
		"no answer in time": {
			func(_ http.ResponseWriter, r *http.Request, _ message) { <-r.Context().Done() },
			store.PendingDelivery, 0, "no answer in time",
		},
		"connection reset": {
			func(w http.ResponseWriter, _ *http.Request, _ message) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			},
			store.PendingDelivery, 0, "connection reset by peer",
		},
		"connection closed": {
			func(http.ResponseWriter, *http.Request, message) { panic(http.ErrAbortHandler) },
			store.PendingDelivery, 0, "EOF",
		},
		"not HTTP": {
			func(w http.ResponseWriter, _ *http.Request, _ message) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				io.WriteString(conn, "OK thanks\r\n\r\n")
				conn.Close()
			},
			store.PendingDelivery, 0, `malformed HTTP status code "thanks"`,
		},
		"200 with a body that drips": {func(w http.ResponseWriter, r *http.Request, _ message) { drip(w, r, 200) }, store.Delivered, 200, ""},
		"500 with a body that drips": {func(w http.ResponseWriter, r *http.Request, _ message) { drip(w, r, 500) }, store.PendingDelivery, 500, "answered with HTTP status 500"},
		"200 with a body that is cut": {
			func(w http.ResponseWriter, _ *http.Request, _ message) {
				w.Header().Set("Content-Length", "1000")
				io.WriteString(w, "short")
			},
			store.Delivered, 200, "",
		},
		"200 with an endless header": {
			func(w http.ResponseWriter, _ *http.Request, _ message) {
				w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
			},
			store.PendingDelivery, 0, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := assemble(t)
			u := receive(t, c.answer).serve("shop")
			u.Timeout = 200 * time.Millisecond
			r.configure(u)
			r.add("a", []string{"shop"}, "1")
			began := time.Now()
			r.run()
			message := r.outcome(1)
			d := r.delivery("1")

			if d.State != c.state || d.Status != c.status || d.Tries != 1 {
				t.Errorf("delivery is %+v", d)
			}
			if !strings.HasSuffix(d.Error, c.error) || (c.state == store.Delivered) != (d.Error == "") {
				t.Errorf("reason is %q, want %q", d.Error, c.error)
			}
			want := map[string]string{
				store.Delivered: "delivered event", store.PendingDelivery: "delivering failed, trying again", store.Dead: "giving up on delivery",
			}
			if message != want[c.state] {
				t.Errorf("logged %q", message)
			}
			if c.state != store.PendingDelivery {
				if !d.Due.IsZero() {
					t.Errorf("it is over and due at %v", d.Due)
				}
			} else if wait := d.Due.Sub(began); wait < time.Hour-time.Millisecond || wait > 66*time.Minute+time.Minute {
				t.Errorf("next try after %v", wait)
			}
		})
	}
}

// TestAHugeAnswerIsNotRead: the upstream notices that nobody takes what it writes.
func TestAHugeAnswerIsNotRead(t *testing.T) {
	r := assemble(t)
	written := make(chan int, 1)
	shop := receive(t, func(w http.ResponseWriter, _ *http.Request, _ message) {
		chunk, n := make([]byte, 64<<10), 0
		for n < 1<<30 {
			m, err := w.Write(chunk)
			if n += m; err != nil {
				break
			}
		}
		written <- n
	})
	r.configure(shop.serve("shop"))
	r.add("a", []string{"shop"}, "1")
	r.run()
	r.outcome(1)
	if n := await(t, written); n >= 1<<30 {
		t.Errorf("%d bytes were taken", n)
	}
	if d := r.delivery("1"); d.State != store.Delivered {
		t.Errorf("delivery is %+v", d)
	}
}

func TestAnUpstreamThatIsNotThere(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	for url, want := range map[string]string{
		server.URL:                               "dial: connection refused",
		"unix//nowhere/shop.sock":                "dial: no such file or directory",
		"http://169.254.169.254/latest":          errSpecialAddress.Error(),
		"http://[::ffff:169.254.169.254]/latest": errSpecialAddress.Error(),
		"http://0.0.0.0:3000/":                   errSpecialAddress.Error(),
		"http://[::]:3000/":                      errSpecialAddress.Error(),
		"http://224.0.0.1/":                      errSpecialAddress.Error(),
	} {
		t.Run(url, func(t *testing.T) {
			r := assemble(t)
			r.configure(upstream("shop", url))
			r.add("a", []string{"shop"}, "1")
			r.run()
			r.outcome(1)
			if d := r.delivery("1"); d.State != store.PendingDelivery || d.Status != 0 || d.Error != want {
				t.Errorf("delivery is %+v", d)
			}
		})
	}
}

func TestEverySecretSigns(t *testing.T) {
	for name, secrets := range map[string][]string{
		"no secret": nil, "one secret": {secret}, "a secret and the older one": {secret, older},
	} {
		t.Run(name, func(t *testing.T) {
			r := assemble(t)
			shop := receive(t, nil)
			shop.secrets = secrets // each of them must verify
			u := shop.serve("shop")
			u.Secrets = keys(t, secrets...)
			r.configure(u)
			r.add("a", []string{"shop"}, "1")
			r.run()
			m := await(t, shop.arrived)

			header := m.Header.Values("Webhook-Signature")
			if len(secrets) == 0 {
				if header != nil {
					t.Errorf("signature is %q", header)
				}
				return
			}
			if list := strings.Split(header[0], " "); len(header) != 1 || len(list) != len(secrets) {
				t.Errorf("%d secrets gave %q", len(secrets), header)
			}
			stranger, err := standardwebhooks.NewWebhook("whsec_" + strings.Repeat("A", 32))
			if err != nil {
				t.Fatal(err)
			}
			if stranger.Verify([]byte(m.Body), m.Header) == nil {
				t.Error("another secret verifies it too")
			}
		})
	}
}

func TestConfiguredHeadersAreSent(t *testing.T) {
	r := assemble(t)
	shop := receive(t, nil)
	u := shop.serve("shop")
	u.Header = http.Header{
		"Authorization": {"Bearer 1"},
		"X-Shop":        {"books", "maps"},
		"Host":          {"shop.example.com"},
		// What describes the event cannot be changed.
		"Content-Type": {"text/plain"}, "User-Agent": {"other"}, "Webhook-Id": {"other"}, "Webhook-Timestamp": {"0"},
	}
	r.configure(u)
	r.add("a", []string{"shop"}, "1")
	r.run()
	m := await(t, shop.arrived)
	for name, want := range map[string][]string{
		"Authorization": {"Bearer 1"}, "X-Shop": {"books", "maps"},
		"Content-Type": {"application/cloudevents+json"}, "User-Agent": {agent}, "Webhook-Id": {"1"},
	} {
		if got := m.Header.Values(name); !slices.Equal(got, want) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if m.Host != "shop.example.com" {
		t.Errorf("Host is %q", m.Host)
	}
	if sent, err := strconv.ParseInt(m.Header.Get("Webhook-Timestamp"), 10, 64); err != nil || time.Since(time.Unix(sent, 0)).Abs() > time.Minute {
		t.Errorf("Webhook-Timestamp is %q", m.Header.Get("Webhook-Timestamp"))
	}
}

func TestAnUpstreamMayBeAUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "shop") // the address of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "shop.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	r := assemble(t)
	shop := receive(t, nil)
	server := httptest.NewUnstartedServer(shop)
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)

	r.configure(upstream("shop", "unix/"+socket))
	r.add("a", []string{"shop"}, "1")
	r.run()
	if m := await(t, shop.arrived); m.Host != "localhost" || m.Path != "/" {
		t.Errorf("got a request to %s%s", m.Host, m.Path)
	}
	r.outcome(1)
	if d := r.delivery("1"); d.State != store.Delivered {
		t.Errorf("delivery is %+v", d)
	}
}

// within fails unless a wait is the configured one or at most a tenth more. The
// times of the store are whole milliseconds.
func within(t *testing.T, name string, wait, configured time.Duration) {
	t.Helper()
	if wait < configured || wait > configured+configured/10+2*time.Millisecond {
		t.Errorf("%s: waited %v, configured is %v", name, wait, configured)
	}
}

func TestAFailingDeliveryIsTriedOnScheduleAndThenDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := assemble(t)
		shop := receive(t, status(http.StatusInternalServerError))
		shop.secrets = []string{secret} // at its own time, every try verifies
		r.inMemory(map[string]http.Handler{"shop": shop})
		for _, w := range r.f.workers {
			w.session.Load().Secrets = keys(t, secret)
		}
		r.add("a", []string{"shop"}, "1")
		began := time.Now()
		r.run()

		first := await(t, shop.arrived)
		if !first.At.Equal(began) {
			t.Errorf("the first try came after %v", first.At.Sub(began))
		}
		last, jitter := first, time.Duration(0)
		for i, wait := range DefaultRetry {
			m := <-shop.arrived
			within(t, fmt.Sprintf("try %d", i+2), m.At.Sub(last.At), wait)
			jitter += m.At.Sub(last.At) - wait
			if m.ID() != first.ID() || m.Body != first.Body || m.Header.Get("Webhook-Id") != first.Header.Get("Webhook-Id") {
				t.Errorf("try %d is another message", i+2)
			}
			if got, before := m.Header.Get("Webhook-Timestamp"), last.Header.Get("Webhook-Timestamp"); got <= before {
				t.Errorf("try %d has time stamp %s after %s", i+2, got, before)
			}
			last = m
		}
		if jitter < time.Second {
			t.Errorf("all waits together are %v longer than configured; failures would come in step", jitter)
		}
		synctest.Wait()
		if d := r.delivery("1"); d.State != store.Dead || d.Tries != 1+len(DefaultRetry) || d.Status != 500 {
			t.Errorf("delivery is %+v", d)
		}
		time.Sleep(7 * 24 * time.Hour)
		if n := len(shop.ids()); n != 1+len(DefaultRetry) {
			t.Errorf("%d tries", n)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	const schedule = 5 * time.Second // the first of DefaultRetry
	in := func(d time.Duration) func() string {
		return func() string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	}
	text := func(s string) func() string { return func() string { return s } }
	for name, c := range map[string]struct {
		status int
		after  func() string
		want   time.Duration
	}{
		"429, seconds":          {429, text("120"), 2 * time.Minute},
		"503, seconds":          {503, text("120"), 2 * time.Minute},
		"sooner than scheduled": {429, text("1"), schedule},
		"429, date":             {429, in(time.Hour), time.Hour},
		"503, date":             {503, in(time.Hour), time.Hour},
		"date of the past":      {429, in(-time.Hour), schedule},
		"zero":                  {429, text("0"), schedule},
		"more than a day":       {503, text("864000"), 24 * time.Hour},
		"date in a year":        {503, in(365 * 24 * time.Hour), 24 * time.Hour},
		"not there":             {429, text(""), schedule},
		"no wish at all":        {429, text("soon"), schedule},
		"negative":              {429, text("-5"), schedule},
		"a fraction":            {429, text("1.5"), schedule},
		"500":                   {500, text("120"), schedule},
		"502":                   {502, text("120"), schedule},
		"404":                   {404, in(time.Hour), schedule},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := assemble(t)
				shop := receive(t, func(w http.ResponseWriter, _ *http.Request, m message) {
					if m.Try == 1 {
						w.Header().Set("Retry-After", c.after())
						w.WriteHeader(c.status)
					}
				})
				r.inMemory(map[string]http.Handler{"shop": shop})
				r.add("a", []string{"shop"}, "1")
				r.run()
				first, second := <-shop.arrived, <-shop.arrived
				within(t, cmp.Or(c.after(), "none"), second.At.Sub(first.At), c.want)
			})
		})
	}
}

func TestRetryAfterGivesNoTryMoreThanConfigured(t *testing.T) {
	r := assemble(t)
	u := receive(t, func(w http.ResponseWriter, _ *http.Request, _ message) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}).serve("shop")
	u.Retry = nil
	r.configure(u)
	r.add("a", []string{"shop"}, "1")
	r.run()
	r.outcome(1)
	if d := r.delivery("1"); d.State != store.Dead {
		t.Errorf("delivery is %+v", d)
	}
}
