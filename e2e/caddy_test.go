// Package e2e tests the program as it is built and shipped: its own process, its own
// files, the example configuration as it stands.
package e2e

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// binary is the built program; TestMain makes it once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ccpayment-e2e-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "caddy")
	build := exec.Command("go", "build", "-o", binary, "../cmd/caddy")
	if os.Getenv("RACE") != "" { // slower, and finds what the test of crashes cannot see
		build.Args = slices.Insert(build.Args, 2, "-race")
	}
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// A process is a running Caddy.
type process struct {
	*exec.Cmd
	t   *testing.T
	mu  sync.Mutex
	log bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// A demo is one of the example configurations, for one generation of the gateway's API.
type demo struct {
	config string
	// flags is whether the gateway flags payments as risky.
	flags bool
}

var demos = map[string]demo{
	"v1": {config: "Caddyfile.example"},
	"v2": {config: "Caddyfile.v2.example", flags: true},
}

// start runs the example as a new user does, in a directory of its own that has what a
// checkout has.
func (d demo) start(t *testing.T) *process {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{d.config, "examples"} {
		source, err := filepath.Abs(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(source, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	p := &process{Cmd: exec.Command(binary, "run", "--config", d.config), t: t}
	p.Dir = dir
	p.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	p.Stdout, p.Stderr = p, p
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("log of the server:\n%s", p.output())
		}
	})
	eventually(t, "the shop answers", func() bool {
		resp, err := http.Get(shop + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
	return p
}

// stop asks the program to end and waits until it has.
func (p *process) stop() {
	if p.ProcessState != nil {
		return
	}
	_ = p.Process.Signal(os.Interrupt)
	ended := make(chan error, 1)
	go func() { ended <- p.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			p.t.Errorf("the server ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		_ = p.Process.Kill()
		p.t.Error("the server did not end within 20 s of an interrupt")
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited in vain until %s", what)
}

// A browser follows links and sends forms, and runs no JavaScript.
type browser struct {
	t      *testing.T
	client *http.Client
	at     *url.URL
	page   string
}

func newBrowser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, client: &http.Client{Jar: jar, Timeout: 30 * time.Second}}
}

func (b *browser) open(address string) {
	b.t.Helper()
	b.send(http.MethodGet, address, nil)
}

// send makes a request with the headers that browsers send.
func (b *browser) send(method, address string, form url.Values) {
	b.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(context.Background(), method, address, body)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", b.at.Scheme+"://"+b.at.Host)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("%s %s: status %d\n%s", method, address, resp.StatusCode, page)
	}
	b.at, b.page = resp.Request.URL, string(page)
}

// forms returns the forms of the page, each with its action first.
func (b *browser) forms() [][]string {
	return regexp.MustCompile(`(?s)<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>`).FindAllStringSubmatch(b.page, -1)
}

var (
	inputTag  = regexp.MustCompile(`<input[^>]*>`)
	attribute = regexp.MustCompile(`([a-z]+)="([^"]*)"`)
	selectTag = regexp.MustCompile(`(?s)<select[^>]*name="([^"]*)"[^>]*>(.*?)</select>`)
	optionTag = regexp.MustCompile(`<option[^>]*value="([^"]*)"[^>]*>`)
)

// submit sends the form of the page that has a text in it, with the values that
// stand in it and those that a person changes.
func (b *browser) submit(with string, changes map[string]string) {
	b.t.Helper()
	for _, form := range b.forms() {
		if !strings.Contains(form[0], with) {
			continue
		}
		values := url.Values{}
		for _, tag := range inputTag.FindAllString(form[2], -1) {
			a := make(map[string]string)
			for _, m := range attribute.FindAllStringSubmatch(tag, -1) {
				a[m[1]] = m[2]
			}
			if a["name"] != "" && a["type"] != "checkbox" && a["type"] != "submit" {
				values.Set(a["name"], a["value"])
			}
		}
		for _, m := range selectTag.FindAllStringSubmatch(form[2], -1) {
			if first := optionTag.FindStringSubmatch(m[2]); first != nil {
				values.Set(m[1], first[1])
			}
		}
		for name, value := range changes {
			if !values.Has(name) {
				b.t.Fatalf("the form has no field %q", name)
			}
			values.Set(name, value)
		}
		target, err := b.at.Parse(form[1])
		if err != nil {
			b.t.Fatal(err)
		}
		b.send(http.MethodPost, target.String(), values)
		return
	}
	b.t.Fatalf("no form with %q on %s", with, b.at)
}
