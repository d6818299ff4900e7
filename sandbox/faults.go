package sandbox

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// Faults that can be switched on for an endpoint, to see what a client does.
const (
	faultSignature = "bad-signature" // a right answer with a wrong signature
	faultError     = "error"         // the documented service error
	fault500       = "500"           // HTTP status 500
	faultHTML      = "html"          // a page instead of JSON, as a proxy would send
	faultHang      = "hang"          // the request takes effect, no answer comes
	faultDrop      = "drop"          // the request takes effect, the connection breaks
	faultBig       = "big"           // a right answer of bigAnswer bytes
	faultLimit     = "rate-limit"    // the refusal for too many requests
	faultNotFound  = "not-found"     // the refusal for what is not known, or not yet
	faultNone      = "none"          // switches the fault off
)

const (
	maxFaultTimes = 10_000
	maxHang       = 30 * time.Second
	bigAnswer     = 8 << 20
)

// endpointNames lists the endpoints of both generations, by the names that faults use.
func endpointNames() []string {
	var names []string
	for _, g := range generations {
		for name := range g.endpoints {
			names = append(names, g.prefix+name)
		}
	}
	slices.Sort(names)
	return names
}

// faultNames is the order in which the page offers them.
var faultNames = []string{
	faultSignature, faultError, fault500, faultHTML, faultHang, faultDrop, faultBig, faultLimit, faultNotFound, faultNone,
}

// A fault happens to the next few requests of an endpoint.
type fault struct {
	Endpoint string `json:"endpoint"`
	Fault    string `json:"fault"`
	Times    int    `json:"times"`
}

// takeFault uses up one of the faults that are switched on.
func (st *state) takeFault(endpoint string) string {
	st.mu.Lock()
	defer st.mu.Unlock()
	f := st.faults[endpoint]
	if f == nil {
		return faultNone
	}
	if f.Times--; f.Times <= 0 {
		delete(st.faults, endpoint)
	}
	return f.Fault
}

// failBefore plays those faults in which the request takes no effect.
func (s *Sandbox) failBefore(w http.ResponseWriter, name string) (done bool, err error) {
	switch name {
	case faultError:
		return true, writeJSON(w, http.StatusOK, serviceError)
	case faultLimit:
		return true, writeJSON(w, http.StatusOK, &apiError{codeRateLimit, "RateLimit", "rate limit"})
	case faultNotFound:
		return true, writeJSON(w, http.StatusOK, &apiError{codeNotFound, "NotFound", "not found"})
	case fault500:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusInternalServerError)
		_, err = io.WriteString(w, "internal server error\n")
		return true, err
	case faultHTML:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, err = io.WriteString(w, "<!DOCTYPE html>\n<title>Just a moment</title>\n<p>Checking your browser.</p>\n")
		return true, err
	}
	return false, nil
}

// answer sends a right answer, unless a fault spoils it.
func (s *Sandbox) answer(w http.ResponseWriter, r *http.Request, api, name string, body []byte) error {
	switch name {
	case faultSignature:
		setSignature(w.Header(), api, s.AppID, s.secret, s.state.now(), append([]byte("not "), body...))
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, err := w.Write(body)
		return err
	case faultHang:
		timer := time.NewTimer(maxHang)
		defer timer.Stop()
		select {
		case <-r.Context().Done():
		case <-s.state.ctx.Done():
		case <-timer.C:
		}
		return drop(w)
	case faultDrop:
		return drop(w)
	case faultBig:
		// Whitespace keeps the JSON right.
		body = append(body, bytes.Repeat([]byte{' '}, max(bigAnswer-len(body), 0))...)
	}
	return s.writeAnswer(w, api, body)
}

// drop ends the connection without an answer. Where the protocol does not let the
// connection go (HTTP/2), an answer that is shorter than it says does the same to
// the client.
func drop(w http.ResponseWriter) error {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		return conn.Close()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "1000")
	w.WriteHeader(http.StatusOK)
	return nil
}

// serveFaults switches faults on and off, and lists them.
func (s *Sandbox) serveFaults(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodPost, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	st := s.state
	if r.Method != http.MethodPost {
		list := []fault{}
		st.mu.Lock()
		for _, f := range st.faults {
			list = append(list, *f)
		}
		st.mu.Unlock()
		return writeJSON(w, http.StatusOK, list)
	}
	if err := s.parseForm(w, r); err != nil {
		return err
	}

	f := fault{Endpoint: r.Form.Get("endpoint"), Fault: r.Form.Get("fault"), Times: 1}
	if !slices.Contains(endpointNames(), f.Endpoint) {
		return s.complain(w, r, http.StatusBadRequest, "unknown endpoint")
	}
	known := false
	for _, name := range faultNames {
		known = known || name == f.Fault
	}
	if !known {
		return s.complain(w, r, http.StatusBadRequest, "unknown fault")
	}
	if v := r.Form.Get("times"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxFaultTimes {
			return s.complain(w, r, http.StatusBadRequest, "times must be a number from 1 to "+strconv.Itoa(maxFaultTimes))
		}
		f.Times = n
	}

	st.mu.Lock()
	if f.Fault == faultNone {
		f.Times = 0
		delete(st.faults, f.Endpoint)
	} else {
		st.faults[f.Endpoint] = &f
	}
	answer := f
	st.mu.Unlock()
	s.logger.Info("switching fault",
		zap.String("endpoint", answer.Endpoint),
		zap.String("fault", answer.Fault),
		zap.Int("times", answer.Times))
	if wantsJSON(r) {
		return writeJSON(w, http.StatusOK, answer)
	}
	http.Redirect(w, r, prefix(r)+"/sandbox/#faults", http.StatusSeeOther)
	return nil
}
