package e2e

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to look into the store
)

const (
	appID     = "202302010636261620672405236006912"
	appSecret = "00112233445566778899aabbccddeeff"
	tokenID   = "0912e09a-d8e2-41d7-a0bc-a25530892988"
)

// A server is Caddy with the plugin, on ports and files of its own. It can be killed
// and started again on the same data.
type server struct {
	*process
	t           *testing.T
	dir         string
	store       string // path of the database
	port, admin int
	gateway     string // URL
	wrap        []string
}

// newServer prepares a server and starts nothing. All servers of a test may share a
// store.
func newServer(t *testing.T, store string) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), store: store, port: freePort(t), admin: freePort(t)}
	if store == "" {
		s.store = filepath.Join(s.dir, "ccpayment.db")
	}
	g := httptest.NewServer(http.HandlerFunc(gateway))
	t.Cleanup(g.Close)
	s.gateway = g.URL
	t.Cleanup(func() {
		if s.process != nil {
			s.stop()
			log := s.output()
			for _, bad := range []string{"panic", "DATA RACE"} {
				if strings.Contains(log, bad) {
					t.Errorf("the server's log has %q", bad)
				}
			}
			if t.Failed() {
				t.Logf("end of the server's log:\n%s", log[max(0, len(log)-20000):])
			}
		}
	})
	return s
}

// freePort finds a port that nobody listens on. It is none of those that the kernel
// gives to clients: one of them could come to sit on it while the server is down.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(10000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// settings are what varies between configurations.
type settings struct {
	app, webhook string
}

func (s *server) config(c settings) string {
	return fmt.Sprintf(`{
	admin 127.0.0.1:%d
	auto_https off
	persist_config off
	grace_period 2s
	storage file_system %s
	ccpayment {
		app_id %s
		app_secret %s
		api v1
		endpoint %s
		reconcile off
		store sqlite %s
		%s
	}
}
http://127.0.0.1:%d {
	handle /pay/* {
		ccpayment_bill {
			product field-guide 25.00 "Field guide"
			method usdt-trc20 %s
			rate_limit 1000/1s 1000
		}
	}
	handle /hooks/* {
		ccpayment_webhook {
			%s
		}
	}
	handle {
		respond "well"
	}
}
`, s.admin, filepath.Join(s.dir, "storage"), appID, appSecret, s.gateway, s.store, c.app, s.port, tokenID, c.webhook)
}

// write writes the configuration to a file and returns its path.
func (s *server) write(c settings) string {
	s.t.Helper()
	path := filepath.Join(s.dir, "Caddyfile")
	if err := os.WriteFile(path, []byte(s.config(c)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// command is a call of the program in the server's surroundings.
func (s *server) command(args ...string) *exec.Cmd {
	args = append(append([]string{}, s.wrap...), append([]string{binary}, args...)...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "XDG_DATA_HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir)
	return cmd
}

// launch starts the program and does not wait until it answers.
func (s *server) launch(c settings) {
	s.t.Helper()
	p := &process{Cmd: s.command("run", "--adapter", "caddyfile", "--config", s.write(c)), t: s.t}
	if s.process != nil {
		p.log.WriteString(s.output()) // the story goes on
	}
	s.process = p
	s.Stdout, s.Stderr = p, p
	if err := s.Start(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) start(c settings) {
	s.t.Helper()
	s.launch(c)
	s.ready()
}

func (s *server) ready() {
	s.t.Helper()
	eventually(s.t, "the server answers", func() bool {
		resp, err := http.Get(s.url("/"))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// kill ends the program as a power cut would, and waits for its end.
func (s *server) kill() {
	s.t.Helper()
	if err := s.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	_ = s.Wait()
}

func (s *server) url(path string) string { return fmt.Sprintf("http://127.0.0.1:%d%s", s.port, path) }

// load gives the running server another configuration.
func (s *server) load(c settings) error {
	post := func() (*http.Response, error) {
		return http.Post(fmt.Sprintf("http://127.0.0.1:%d/load", s.admin), "text/caddyfile", strings.NewReader(s.config(c)))
	}
	resp, err := post()
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) {
		// The load before has replaced the admin endpoint too, and with it what waited
		// there to be accepted.
		resp, err = post()
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("status %d: %s", resp.StatusCode, answer)
	}
	return nil
}

// rows reads one column of what a query finds in the store, beside the server.
func rows[T any](s *server, query string, args ...any) (list []T) {
	s.t.Helper()
	location := url.URL{Scheme: "file", Opaque: (&url.URL{Path: s.store}).EscapedPath(), RawQuery: "_pragma=busy_timeout(10000)&_pragma=query_only(1)"}
	db, err := sql.Open("sqlite", location.String())
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	found, err := db.Query(query, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	defer found.Close()
	for found.Next() {
		var v T
		if err := found.Scan(&v); err != nil {
			s.t.Fatal(err)
		}
		list = append(list, v)
	}
	if err := found.Err(); err != nil {
		s.t.Fatal(err)
	}
	return list
}

// settled waits until every callback is resolved and every delivery is over, for as
// long as there is some progress.
func (s *server) settled() {
	s.t.Helper()
	const patience = time.Minute
	var (
		work  = "-"
		since = time.Now()
	)
	for time.Since(since) < patience {
		now := rows[string](s, `SELECT (SELECT count(*) FROM callbacks WHERE state = 'received') || ' callbacks and '
			|| (SELECT count(*) FROM deliveries WHERE state = 'pending') || ' deliveries'`)[0]
		if now == "0 callbacks and 0 deliveries" {
			return
		}
		if now != work {
			work, since = now, time.Now()
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatalf("%s are left, and nothing happens", work)
}

// intact looks for damage in the files of a server that has ended.
func (s *server) intact() {
	s.t.Helper()
	if got := rows[string](s, "PRAGMA integrity_check"); len(got) != 1 || got[0] != "ok" {
		s.t.Errorf("the database is damaged: %q", got)
	}
	if got := rows[string](s, `SELECT "table" FROM pragma_foreign_key_check`); len(got) != 0 {
		s.t.Errorf("rows without those they belong to: %q", got)
	}
}

// signV1 is the documented formula of API v1.
func signV1(timestamp, body string) string {
	sum := sha256.Sum256([]byte(appID + appSecret + timestamp + body))
	return hex.EncodeToString(sum[:])
}

// gateway answers what is asked while a bill is made.
func gateway(w http.ResponseWriter, r *http.Request) {
	var in struct {
		MerchantOrderID  string   `json:"merchant_order_id"`
		MerchantOrderIDs []string `json:"merchant_order_ids"`
		ProductPrice     string   `json:"product_price"`
	}
	_ = json.NewDecoder(r.Body).Decode(&in)
	var body string
	switch r.URL.Path {
	case "/bill/create":
		body = fmt.Sprintf(`{"code":10000,"msg":"success","data":{"amount":%q,"order_id":"order-of-%s","logo":"","network":"TRC20","pay_address":"TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt","memo":"","token_id":%q,"crypto":"USDT","order_valid_period":3600}}`,
			in.ProductPrice, in.MerchantOrderID, tokenID)
	case "/bill/info":
		body = fmt.Sprintf(`{"code":10000,"msg":"success","data":[{"order_detail":{"merchant_order_id":%q,"chain":"TRX","contract":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t","crypto":"USDT","order_amount":"50.0137"},"trade_list":[],"refund_list":[]}]}`,
			in.MerchantOrderIDs[0])
	default:
		http.NotFound(w, r)
		return
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	w.Header().Set("Appid", appID)
	w.Header().Set("Timestamp", timestamp)
	w.Header().Set("Sign", signV1(timestamp, body))
	_, _ = io.WriteString(w, body)
}

// buy makes a bill and returns its reference.
func (s *server) buy() string {
	s.t.Helper()
	form := url.Values{"item": {"field-guide"}, "quantity": {"2"}, "method": {"usdt-trc20"}}
	req, _ := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url("/pay/bills"), strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var bill struct{ Reference string }
	if err := json.NewDecoder(resp.Body).Decode(&bill); err != nil || resp.StatusCode != http.StatusCreated {
		s.t.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	return bill.Reference
}

// A callback is what the gateway says of one payment.
type callback struct{ reference, record, status string }

// key is what tells a callback from others.
func (c callback) key() string { return c.record + " " + c.status }

func (c callback) body() string {
	return fmt.Sprintf(`{"pay_status":%q,"order_type":"API Deposit","record_id":%q,"order_id":"order-of-%s","product_price":"50.00","denominated_currency":"USD","order_amount":"50.0137","fiat_rate":"1","paid_amount":"1","token_rate":"0.9997","chain":"TRX","txid":"tx-%s","contract":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t","crypto":"USDT","extend":{"merchant_order_id":%q}}`,
		c.status, c.record, c.reference, c.record, c.reference)
}

// send sends a callback and returns the status and the answer.
func (s *server) send(client *http.Client, c callback) (int, string, error) {
	body, timestamp := c.body(), strconv.FormatInt(time.Now().Unix(), 10)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.url("/hooks/ccpayment"), strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("Appid", appID)
	req.Header.Set("Timestamp", timestamp)
	req.Header.Set("Sign", signV1(timestamp, body))
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}

// accept sends a callback that must be taken.
func (s *server) accept(c callback) {
	s.t.Helper()
	status, answer, err := s.send(http.DefaultClient, c)
	for err != nil && dropped(err) { // a reload was before
		status, answer, err = s.send(http.DefaultClient, c)
	}
	if err != nil || status != http.StatusOK || answer != "success" {
		s.t.Fatalf("callback %s: %d %q, %v", c.key(), status, answer, err)
	}
}
