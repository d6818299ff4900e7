// Package forward delivers events to upstreams: each to each until it is taken or
// its tries are used up, in order for every bill, signed as Standard Webhooks.
package forward

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/trace"
)

// DefaultRetry is the schedule that Standard Webhooks recommends: the waits
// between tries after the first, which is immediate.
var DefaultRetry = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// An Upstream receives the events of an account.
type Upstream struct {
	Account string
	// Name is the identity of the upstream's queue.
	Name    string
	URL     string
	Secrets [][]byte
	// Types are patterns of the event types it wants; none means all.
	Types   []string
	Timeout time.Duration
	Header  http.Header
	Retry   []time.Duration
}

// Wants reports whether the upstream takes events of a type.
func (u *Upstream) Wants(eventType string) bool {
	if len(u.Types) == 0 {
		return true
	}
	for _, pattern := range u.Types {
		if ok, _ := path.Match(pattern, eventType); ok {
			return true
		}
	}
	return false
}

// Equal reports whether two upstreams have the same settings.
func (u *Upstream) Equal(v *Upstream) bool { return reflect.DeepEqual(u, v) }

// ParseSecret reads a Standard Webhooks secret: "whsec_" and base64 of 24 to 64 bytes.
func ParseSecret(s string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(s, "whsec_")
	if !ok {
		return nil, errors.New(`secret does not begin with "whsec_"`)
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, errors.New(`secret is not base64 after "whsec_"`)
	}
	if len(key) < 24 || len(key) > 64 {
		return nil, fmt.Errorf("secret has %d bytes; Standard Webhooks asks for 24 to 64, e.g. from: openssl rand -base64 32", len(key))
	}
	return key, nil
}

// unixPrefix is how Caddy writes the address of a Unix socket.
const unixPrefix = "unix/"

// ParseURL checks the address of an upstream and returns the default name of its
// queue. Known forms are http://…, https://… and unix//path/to.sock.
func ParseURL(s string) (name string, err error) {
	if socket, ok := strings.CutPrefix(s, unixPrefix); ok {
		if !strings.HasPrefix(socket, "/") {
			return "", fmt.Errorf("upstream %s: a Unix socket is written unix//path/to.sock", s)
		}
		return "unix" + socket, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", errors.New("upstream: not an address; known: http://…, https://…, unix//path/to.sock")
	}
	if u.User != nil {
		return "", errors.New("upstream: the address has a user or password; use the option header")
	}
	return u.Host + strings.TrimSuffix(u.EscapedPath(), "/"), nil
}

// client returns the HTTP client of an upstream and the URL to post to.
func (u *Upstream) client() (*http.Client, string) {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second, Control: refuseSpecial}
	t := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		MaxIdleConnsPerHost:    concurrency,
		MaxConnsPerHost:        2 * concurrency,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	}
	target := u.URL
	if socket, ok := strings.CutPrefix(u.URL, unixPrefix); ok {
		t.DialContext = unixDialer(socket)
		target = "http://localhost/"
	}
	return &http.Client{
		Transport: trace.Transport(t),
		Timeout:   u.Timeout,
		// A redirect is an answer that is not 2xx; the event is not sent elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, target
}

// metadata has the addresses at which clouds tell a machine its own secrets, other
// than the link-local one.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google Cloud
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("168.63.129.16"),   // Azure
}

// nat64 is the prefix that stands before an IPv4 address on networks without IPv4.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

var errSpecialAddress = errors.New("the upstream's name leads to a link-local, multicast or unspecified address")

// refuseSpecial looks at the address after the name was resolved. Private networks
// are what upstreams are for; metadata services and the like never are.
func refuseSpecial(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := ap.Addr().Unmap().WithZone("")
	if nat64.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	if ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || slices.Contains(metadata, ip) {
		return errSpecialAddress
	}
	return nil
}
