package ccpayment

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
)

// keyFlags are the credentials that sign, verify and trigger work with.
type keyFlags struct{ api, appID, secret string }

func (k *keyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&k.api, "api", "", "Generation of the API: v1 or v2 (required)")
	cmd.Flags().StringVar(&k.appID, "app-id", "{env.CCPAYMENT_APP_ID}", "App ID; placeholders are allowed")
	cmd.Flags().StringVar(&k.secret, "app-secret", "{env.CCPAYMENT_APP_SECRET}", "App Secret; use {env.…} or {file.…}, which stay out of the shell's history")
}

// signer makes a signer of the flags. The secret is in none of its errors.
func (k *keyFlags) signer() (*signer, error) {
	if k.api != apiV1 && k.api != apiV2 {
		return nil, fmt.Errorf("--api %q: say which generation the merchant account belongs to, v1 or v2", k.api)
	}
	appID, err := expand("--app-id", k.appID)
	if err != nil {
		return nil, err
	}
	secret, err := expand("--app-secret", k.secret)
	if err != nil {
		return nil, err
	}
	return newSigner(k.api, appID, []string{secret}, now)
}

func addSignCommands(root *cobra.Command) {
	add := func(use, short, long string, args cobra.PositionalArgs, run func(*cobra.Command, []string, *keyFlags) error) *cobra.Command {
		keys := new(keyFlags)
		cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: args}
		cmd.RunE = func(cmd *cobra.Command, args []string) error { return run(cmd, args, keys) }
		keys.add(cmd)
		root.AddCommand(cmd)
		return cmd
	}

	add("sign [<file>]", "Signs a body as the gateway does, and prints the headers", `
Signs a body, from a file or from standard input, and prints the three headers of
a request or a callback. The body is taken to the byte: a line break at its end
counts.`, cobra.MaximumNArgs(1), runSign)

	verify := add("verify [<file>]", "Checks a signature, and says why it does not match", `
Checks the signature of a body, from a file or from standard input. Where it does
not match, the usual reasons are tried out: another form of the timestamp, the
other generation, a body that was written anew on its way, a line break too much.`, cobra.MaximumNArgs(1), runVerify)
	verify.Flags().String("timestamp", "", "The header Timestamp (required)")
	verify.Flags().String("sign", "", "The header Sign (required)")

	trigger := add("trigger <kind>", "Sends a signed test callback to a URL", fmt.Sprintf(`
Sends a signed test callback to a ccpayment_webhook. Kinds of v1:
%s.
Kinds of v2:
%s.

It is a real callback to whoever receives it. Without --reference it is about a bill
that does not exist, and is told to the upstreams all the same, with "known": false;
with that of a bill it counts as its payment. On v2 the gateway is asked first.`, kindNames(apiV1), kindNames(apiV2)), oneKind, runTrigger)
	f := trigger.Flags()
	f.String("to", "", "URL of ccpayment_webhook (required)")
	f.String("status", "", "Status of the payment (default: success)")
	f.String("reference", "", "The shop's order id (default: a random one)")
	f.String("record", "", "The gateway's record id (default: a random one)")
	f.String("amount", "25", "Amount of the coin")
}

// oneKind says which kinds there are where none is named.
func oneKind(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name one kind; v1 has: %s; v2 has: %s", kindNames(apiV1), kindNames(apiV2))
	}
	return nil
}

// textFlag is the value of a flag that is a text.
func textFlag(cmd *cobra.Command, name string) string { return cmd.Flags().Lookup(name).Value.String() }

// input reads a body from a file, or from standard input.
func input(cmd *cobra.Command, args []string) ([]byte, error) {
	if len(args) == 0 || args[0] == "-" {
		return io.ReadAll(cmd.InOrStdin())
	}
	return os.ReadFile(args[0])
}

func runSign(cmd *cobra.Command, args []string, keys *keyFlags) error {
	s, err := keys.signer()
	if err != nil {
		return err
	}
	body, err := input(cmd, args)
	if err != nil {
		return err
	}
	appID, timestamp, sign := s.Sign(body)
	fmt.Fprintf(cmd.OutOrStdout(), "Appid: %s\nTimestamp: %s\nSign: %s\n", appID, timestamp, sign)
	return nil
}

var errInvalid = errors.New("the signature does not match")

func runVerify(cmd *cobra.Command, args []string, keys *keyFlags) error {
	timestamp, sign := textFlag(cmd, "timestamp"), textFlag(cmd, "sign")
	s, err := keys.signer()
	if err != nil {
		return err
	}
	if timestamp == "" || sign == "" {
		return errors.New("--timestamp and --sign are the headers of what is to be checked; both are needed")
	}
	body, err := input(cmd, args)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if signedAt, err := s.Verify(s.appID, timestamp, sign, body); err == nil {
		old := now().Sub(signedAt)
		fmt.Fprintf(w, "The %s signature matches. It was made %s (%s).\n", s.api, signedAt.UTC().Format(time.RFC3339), relative(old))
		if old.Abs() > defaultTolerance {
			fmt.Fprintf(w, "That is outside of the window of %s: ccpayment_webhook keeps such a callback\nand counts it once the gateway has confirmed it. A request so old is refused by the\ngateway. If it was made just now, the clock of one side is wrong.\n", defaultTolerance)
		}
		return nil
	}
	fmt.Fprintf(w, "The signature does not match.\n")
	for _, hint := range explain(s, timestamp, sign, body) {
		fmt.Fprintf(w, "- %s\n", hint)
	}
	return errInvalid
}

func relative(d time.Duration) string {
	if d < 0 {
		return "in " + age(-d)
	}
	return age(d) + " ago"
}

// testCallback is what a person may choose of a test callback.
type testCallback struct{ status, reference, record, amount string }

// A triggerKind makes the body of a test callback.
type triggerKind struct {
	status string // that of a success
	body   func(testCallback) any
}

// pairs is a JSON object under construction.
type pairs = map[string]any

// order1 are the fields that all callbacks of v1 about an order's payment have.
// Source: https://docs.ccpayment.com/, "Webhook notification".
func order1(kind string, c testCallback, more pairs) pairs {
	p := pairs{
		"pay_status": c.status, "order_type": kind, "record_id": c.record, "order_id": "test" + c.record,
		"chain": "TRX", "contract": "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", "crypto": "USDT", "txid": "internal transfer",
	}
	maps.Copy(p, more)
	return p
}

// message2 is a callback of v2.
// Source: https://ccpayment.com/api/doc, "Webhook".
func message2(kind string, c testCallback, more pairs) pairs {
	p := pairs{"recordId": c.record, "coinId": 1280, "coinSymbol": "USDT", "status": c.status}
	maps.Copy(p, more)
	return pairs{"type": kind, "msg": p}
}

// triggers has the kinds of callbacks of both generations, by the name they have on
// the command line.
var triggers = map[string]map[string]triggerKind{
	apiV1: {
		"api-deposit": {"success", func(c testCallback) any {
			return order1("API Deposit", c, pairs{
				"product_price": "25.00", "denominated_currency": "USD", "order_amount": c.amount, "fiat_rate": "1", "token_rate": "1",
				"paid_amount": c.amount, "extend": pairs{"merchant_order_id": c.reference},
			})
		}},
		"direct-deposit": {"success", func(c testCallback) any {
			return order1("Direct Deposit", c, pairs{"user_id": c.reference, "paid_amount": c.amount, "credit_amount": c.amount, "service_fee": "0"})
		}},
		"invoice": {"success", func(c testCallback) any {
			return order1("Invoice", c, pairs{
				"product_price": "25.00", "denominated_currency": "USD", "order_amount": c.amount, "paid_amount": c.amount,
				"credit_amount": c.amount, "service_fee": "0", "extend": pairs{"invoice_id": c.reference, "user_email": "payer@example.com"},
			})
		}},
		"api-withdrawal": {"success", func(c testCallback) any {
			return order1("API Withdrawal", c, pairs{"merchant_order_id": c.reference, "withdraw_amount": c.amount, "net_receivable": c.amount, "merchant_pays_fee": false})
		}},
		"refund": {"success", func(c testCallback) any {
			return order1("Refund", c, pairs{"merchant_order_id": c.reference, "amount": c.amount, "net_receivable": c.amount})
		}},
	},
	apiV2: {
		"api-deposit": {"Success", func(c testCallback) any {
			return message2("ApiDeposit", c, pairs{"orderId": c.reference, "isFlaggedAsRisky": false})
		}},
		"direct-deposit": {"Success", func(c testCallback) any {
			return message2("DirectDeposit", c, pairs{"referenceId": c.reference, "isFlaggedAsRisky": false})
		}},
		"api-withdrawal": {"Success", func(c testCallback) any {
			return message2("ApiWithdrawal", c, pairs{"orderId": c.reference})
		}},
		"user-deposit": {"Success", func(c testCallback) any {
			return message2("UserDeposit", c, pairs{"userId": c.reference, "amount": c.amount, "isFlaggedAsRisky": false})
		}},
		"user-withdrawal": {"Success", func(c testCallback) any {
			return message2("UserWithdrawal", c, pairs{"userId": c.reference, "orderId": c.reference})
		}},
		"activate": {"", func(testCallback) any { return pairs{"type": "ActivateWebhookURL", "msg": pairs{}} }},
	},
}

func kindNames(api string) string {
	return strings.Join(slices.Sorted(maps.Keys(triggers[api])), ", ")
}

func runTrigger(cmd *cobra.Command, args []string, keys *keyFlags) error {
	kind, to := args[0], textFlag(cmd, "to")
	c := testCallback{textFlag(cmd, "status"), textFlag(cmd, "reference"), textFlag(cmd, "record"), textFlag(cmd, "amount")}
	s, err := keys.signer()
	if err != nil {
		return err
	}
	k, ok := triggers[s.api][kind]
	if !ok {
		return fmt.Errorf("unrecognized kind %q; %s has: %s", kind, s.api, kindNames(s.api))
	}
	if to == "" {
		return errors.New("--to says where the callback goes, like https://shop.example.com/hooks/ccpayment")
	}
	target, err := url.Parse(to)
	if err != nil || target.Host == "" || target.Scheme != "https" && (target.Scheme != "http" || !loopback(target.Hostname())) {
		return fmt.Errorf("--to %s: not an address like https://shop.example.com/hooks/ccpayment; http is for loopback addresses only", to)
	}
	if c.status == "" {
		c.status = k.status
	}
	if c.reference == "" {
		c.reference = "test-" + strings.ToLower(rand.Text()[:16])
	}
	if c.record == "" {
		c.record = "test" + strconv.FormatInt(now().UnixMilli(), 10) + strings.ToLower(rand.Text()[:6])
	}
	body, err := json.Marshal(k.body(c))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(cmd.Context(), http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return err
	}
	appID, timestamp, sign := s.Sign(body)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("Appid", appID)
	req.Header.Set("Timestamp", timestamp)
	req.Header.Set("Sign", sign)
	client := &http.Client{
		Transport:     gateway.NewTransport(),
		Timeout:       defaultTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("reading the answer: %v", err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "sent %s about %s, record %s\nanswered %s: %q\n", kind, c.reference, c.record, resp.Status, answer)
	if taken := string(answer); resp.StatusCode != http.StatusOK || taken != "success" && taken != `{"msg":"success"}` {
		return errors.New(refusalHint(resp.StatusCode))
	}
	return nil
}

// refusalHint says what an answer other than success means.
func refusalHint(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "the callback was refused: app id, secret or api are not those of the account, or allow_ip does not have this address; the server's log says which"
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return "there is no ccpayment_webhook at this address"
	case http.StatusServiceUnavailable:
		return "the callback could not be stored; the server's log says why"
	}
	return "the gateway would take this answer for a failure: it must be 200 with \"success\""
}
