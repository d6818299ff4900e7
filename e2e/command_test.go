package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"
)

// asked runs a command of the program, as an operator in a terminal does. Its result is
// what it has printed and the status it ended with.
func (p *process) asked(args ...string) (printed string, status int) {
	p.t.Helper()
	c := exec.CommandContext(p.t.Context(), binary, append([]string{"ccpayment"}, args...)...)
	c.Env = append(os.Environ(), "HOME="+p.Dir, "CCPAYMENT_APP_ID=202302010636261620672405236006912", "CCPAYMENT_APP_SECRET=00112233445566778899aabbccddeeff")
	out, err := c.CombinedOutput()
	if err != nil && c.ProcessState == nil {
		p.t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

// object asks for JSON and reads it.
func object[T any](p *process, args ...string) (out T) {
	p.t.Helper()
	printed, status := p.asked(append(args, "--json")...)
	if status != 0 {
		p.t.Fatalf("%q ended with %d: %s", args, status, printed)
	}
	if err := json.Unmarshal([]byte(printed), &out); err != nil {
		p.t.Fatalf("%q: %v: %s", args, err, printed)
	}
	return out
}

// TestAnOperatorSeesAndMendsThingsInATerminal, from outside and beside the running server.
func TestAnOperatorSeesAndMendsThingsInATerminal(t *testing.T) {
	for api, d := range demos {
		t.Run(api, func(t *testing.T) {
			server := d.start(t)
			hooks := shop + "/hooks/ccpayment"

			// 1. A buyer orders, and a test callback pays half. The simulator knows of no
			// payment, so on v2 none is made up for it: it is paid there instead.
			b := newBrowser(t)
			b.open(shop + "/")
			b.submit(`value="field-guide"`, map[string]string{"quantity": "2", "method": "usdt-trc20"})
			bills := object[[]struct{ Reference, Status string }](server, "bills")
			if len(bills) != 1 || bills[0].Status != "awaiting_payment" {
				t.Fatalf("bills are %+v", bills)
			}
			reference := bills[0].Reference
			if api == "v1" {
				printed, status := server.asked("trigger", "api-deposit", "--api", api, "--to", hooks, "--reference", reference, "--amount", "20")
				if status != 0 {
					t.Fatalf("trigger ended with %d: %s", status, printed)
				}
			} else {
				resp, err := http.PostForm(simulator+"/sandbox/orders/"+reference+"/pay-part", url.Values{})
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
			}
			eventually(t, "the operator sees that it is paid in part", func() bool {
				return object[struct{ Status string }](server, "bills", reference).Status == "underpaid"
			})

			// 2. What has happened, in tables of a terminal.
			for _, args := range [][]string{{"status"}, {"bills"}, {"bills", reference}, {"events"}, {"deliveries"}} {
				printed, status := server.asked(args...)
				if status != 0 || printed == "" {
					t.Errorf("%q ended with %d: %s", args, status, printed)
				}
				for line := range strings.SplitSeq(printed, "\n") {
					// The path of the store is as long as it is.
					if utf8.RuneCountInString(line) > 80 && !strings.HasPrefix(line, "store ") {
						t.Errorf("%q does not fit: %s", args, line)
					}
				}
			}

			// 3. The event is delivered once more when the operator wants that.
			events := object[[]struct{ ID, Type string }](server, "events")
			if len(events) != 1 || events[0].Type != "bill.underpaid" {
				t.Fatalf("events are %+v", events)
			}
			times := func() (n int) {
				for _, e := range inbox(t) {
					if e.ID == events[0].ID {
						n = e.Times
					}
				}
				return n
			}
			eventually(t, "the event is delivered", func() bool { return times() == 1 })
			if printed, status := server.asked("replay", events[0].ID[:12]); status != 0 {
				t.Errorf("replay ended with %d: %s", status, printed)
			}
			eventually(t, "it is delivered again", func() bool { return times() == 2 })

			// 4. The gateway is asked, and knows nothing else.
			if done := object[struct{ Bills, Found int }](server, "reconcile"); done.Bills != 1 || done.Found != 0 {
				t.Errorf("reconciled %+v", done)
			}

			// 5. What is wrong ends with another status than zero, and says why.
			for _, test := range []struct {
				args []string
				says string
			}{
				{[]string{"bills", "no-such-bill"}, "no-such-bill"},
				{[]string{"replay", "evt_nothing"}, "evt_nothing"},
				{[]string{"retry", "999999"}, "999999"},
				{[]string{"status", "--address", "localhost:9"}, "localhost:9"},
				{[]string{"trigger", "api-deposit", "--api", map[string]string{"v1": "v2", "v2": "v1"}[api], "--to", hooks}, "401"},
				{[]string{"trigger", "no-such-kind", "--api", api, "--to", hooks}, "no-such-kind"},
			} {
				if printed, status := server.asked(test.args...); status == 0 || !strings.Contains(printed, test.says) {
					t.Errorf("%q ended with %d: %s", test.args, status, printed)
				}
			}
			if got := fmt.Sprint(object[[]struct{ Status string }](server, "bills")); got != "[{underpaid}]" {
				t.Errorf("in the end bills are %s", got)
			}
		})
	}
}
