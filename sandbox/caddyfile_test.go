package sandbox

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func TestUnmarshalCaddyfile(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want string // JSON, or the beginning of an error
	}{
		"all": {
			"ccpayment_sandbox {\napp_id a\napp_secret {env.SECRET}\nnotify_url http://x/\ninbox_secret whsec_x\nspeed 2.5\nopen Shop http://s/\nopen \"The sandbox\" http://b/\n}",
			`{"app_id":"a","app_secret":"{env.SECRET}","notify_url":"http://x/","inbox_secret":"whsec_x","speed":2.5,"open":[{"label":"Shop","url":"http://s/"},{"label":"The sandbox","url":"http://b/"}]}`,
		},
		"api":           {"ccpayment_sandbox {\napp_id a\napp_secret b\napi v2\n}", `{"app_id":"a","app_secret":"b","api":"v2"}`},
		"no such api":   {"ccpayment_sandbox {\napi v3\n}", "api 'v3' must be v1 or v2"},
		"least":         {"ccpayment_sandbox {\napp_id a\napp_secret b\n}", `{"app_id":"a","app_secret":"b"}`},
		"argument":      {"ccpayment_sandbox x {\napp_id a\napp_secret b\n}", "wrong argument count"},
		"unknown":       {"ccpayment_sandbox {\napp_ids a\n}", "unrecognized ccpayment_sandbox option 'app_ids'; known: app_id, app_secret, api, notify_url, inbox_secret, speed, open, at Testfile:2"},
		"repeated":      {"ccpayment_sandbox {\napp_id a\napp_id b\n}", "ccpayment_sandbox option 'app_id' is given twice; known: app_id, app_secret, api, notify_url, inbox_secret, speed, open, at Testfile:3"},
		"no value":      {"ccpayment_sandbox {\napp_id\n}", "wrong argument count"},
		"empty value":   {"ccpayment_sandbox {\napp_id a\napp_secret \"\"\n}", "wrong argument count"},
		"two values":    {"ccpayment_sandbox {\napp_id a b\n}", "wrong argument count"},
		"open":          {"ccpayment_sandbox {\nopen Shop\n}", "wrong argument count"},
		"speed 0":       {"ccpayment_sandbox {\nspeed 0\n}", "speed '0' must be a number greater than 0"},
		"speed NaN":     {"ccpayment_sandbox {\nspeed NaN\n}", "speed 'NaN' must be a number greater than 0"},
		"block":         {"ccpayment_sandbox {\nspeed 1 {\nx\n}\n}", "ccpayment_sandbox option 'speed' has no block"},
		"no app_secret": {"ccpayment_sandbox {\napp_id a\n}", "ccpayment_sandbox needs the option 'app_secret'"},
	} {
		t.Run(name, func(t *testing.T) {
			var s Sandbox
			err := s.UnmarshalCaddyfile(caddyfile.NewTestDispenser(tc.in))
			if strings.HasPrefix(tc.want, "{") {
				got, _ := json.Marshal(s)
				if err != nil || string(got) != tc.want {
					t.Errorf("got %s and %v", got, err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestAdapt checks the place of the directive: before handle.
func TestAdapt(t *testing.T) {
	adapter := caddyconfig.GetAdapter("caddyfile")
	out, warnings, err := adapter.Adapt([]byte(`http://localhost:9090 {
	handle {
		respond "late"
	}
	ccpayment_sandbox {
		app_id a
		app_secret b
	}
}
`), nil)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	mine, other := strings.Index(string(out), `"ccpayment_sandbox"`), strings.Index(string(out), `"late"`)
	if mine < 0 || other < mine {
		t.Errorf("wrong order: %s", out)
	}
}
