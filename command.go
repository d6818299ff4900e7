package ccpayment

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "ccpayment",
		Usage: "<command>",
		Short: "Shows and mends payments, events and deliveries",
		Long: `
Shows what the ccpayment plugin of a running Caddy has in its store, and repairs
what is stuck. It asks Caddy's admin endpoint, so that it needs no access to the
store. sign, verify and trigger need no running Caddy.

Tables are for people; --json prints what the admin endpoint has answered.`,
		CobraFunc: addCommands,
	})
}

// An operator runs the commands that ask the admin endpoint.
type operator struct {
	address, config, adapter string
	json                     bool
}

func addCommands(root *cobra.Command) {
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q; see: caddy ccpayment --help", args[0])
		}
		return cmd.Help()
	}
	o := new(operator)
	add := func(use, short string, args cobra.PositionalArgs, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
		cmd := &cobra.Command{Use: use, Short: short, Args: args, RunE: run}
		cmd.Flags().StringVar(&o.address, "address", "", "The admin endpoint (default: that of --config, or localhost:2019)")
		cmd.Flags().StringVarP(&o.config, "config", "c", "", "Configuration file that names the admin endpoint")
		cmd.Flags().StringVarP(&o.adapter, "adapter", "a", "", "Adapter of that file")
		cmd.Flags().BoolVar(&o.json, "json", false, "Print JSON")
		root.AddCommand(cmd)
		return cmd
	}
	paged := func(cmd *cobra.Command, before string) {
		cmd.Flags().Int("limit", adminLimit, fmt.Sprintf("How many, at most %d", maxAdminLimit))
		cmd.Flags().String("before", "", "Only those before this "+before)
	}

	add("status", "Shows accounts, inbox and the queues of the upstreams", cobra.NoArgs, o.status)

	bills := add("bills [<reference>]", "Lists bills, newest first, or shows one with its payments and events", cobra.MaximumNArgs(1), o.bills)
	bills.Flags().String("status", "", "Only those of a status, like paid or underpaid")
	paged(bills, "reference")

	events := add("events [<id>]", "Lists events, newest first, or shows one with its deliveries", cobra.MaximumNArgs(1), o.events)
	paged(events, "event")

	deliveries := add("deliveries", "Lists deliveries, newest first", cobra.NoArgs, o.deliveries)
	deliveries.Flags().String("state", "", "Only those in a state: pending, dead, delivered")
	deliveries.Flags().String("upstream", "", "Only those to an upstream, by its name")
	paged(deliveries, "delivery")

	retry := add("retry <delivery>...", "Makes deliveries due again, with all their tries before them", cobra.MinimumNArgs(1), o.retry)
	retry.Flags().String("upstream", "", "Deliver to this upstream instead, by its name")

	replay := add("replay [<event>...]", "Has events delivered once more, by id or by time", cobra.ArbitraryArgs, o.replay)
	replay.Flags().String("since", "", "From a time, like 2026-01-02T15:04:05Z, or so long ago, like 3d")
	replay.Flags().String("until", "", "Those before this time (default: now)")
	replay.Flags().String("upstream", "", "Only to this upstream, by its name")

	add("reconcile", "Asks the gateway now about every bill that may still change", cobra.NoArgs, o.reconcile)

	addSignCommands(root)
}

// ask makes a request to the admin endpoint. With --json its answer is printed, and
// done is true.
func (o *operator) ask(cmd *cobra.Command, method, path string, query url.Values, body, answer any) (done bool, err error) {
	address, err := caddycmd.DetermineAdminAPIAddress(o.address, nil, o.config, o.adapter)
	if err != nil {
		return false, fmt.Errorf("finding the admin endpoint: %v", err)
	}
	uri := adminPrefix + path
	if len(query) > 0 {
		uri += "?" + query.Encode()
	}
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return false, err
		}
		reader = bytes.NewReader(text)
	}
	resp, err := caddycmd.AdminAPIRequest(address, method, uri, nil, reader)
	if err != nil {
		return false, plainError(address, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return false, fmt.Errorf("reading the answer of %s: %v", address, err)
	}
	if o.json {
		_, err := cmd.OutOrStdout().Write(text)
		return true, err
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return false, fmt.Errorf("the answer of %s is not that of this plugin; is an other version running? (%v)", address, err)
	}
	return false, nil
}

// plainError takes the message out of what Caddy makes of an error's answer.
func plainError(address string, err error) error {
	text := err.Error()
	if _, answer, ok := strings.Cut(text, ": HTTP "); ok {
		var problem struct {
			Error string `json:"error"`
		}
		status, body, _ := strings.Cut(answer, ": ")
		if json.Unmarshal([]byte(body), &problem) == nil && problem.Error != "" {
			return errors.New(problem.Error)
		}
		if status == "404" {
			return fmt.Errorf("the Caddy at %s is running without the ccpayment plugin", address)
		}
		return err
	}
	return fmt.Errorf("%v\nIs Caddy running, with its admin endpoint at %s? (--address, --config)", err, address)
}

// flags takes those of a command that were set as parameters of a query.
func flags(cmd *cobra.Command, names ...string) url.Values {
	query := url.Values{}
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			query.Set(name, f.Value.String())
		}
	}
	return query
}

func (o *operator) status(cmd *cobra.Command, _ []string) error {
	var v statusView
	if done, err := o.ask(cmd, http.MethodGet, "status", nil, nil, &v); done || err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "caddy-ccpayment %s\nstore %s: %s\n", v.Version, v.Store.State, v.Store.Location)
	if v.Store.State != "open" {
		return errors.New(v.Store.Problem) // nobody can look into it
	}
	fmt.Fprintf(w, "inbox: %d to resolve, %d to ask the gateway about, %d stale to be confirmed\n\n", v.Inbox["received"], v.Inbox["asking"], v.Inbox["quarantined"])
	accounts := &table{header: []string{"ACCOUNT", "API", "BILLS"}}
	for _, name := range slices.Sorted(maps.Keys(v.Accounts)) {
		var bills []string
		for _, status := range statuses {
			if n := v.Bills[name][status]; n > 0 {
				bills = append(bills, fmt.Sprintf("%d %s", n, status))
			}
		}
		accounts.row("", name, v.Accounts[name].API, strings.Join(bills, ", "))
	}
	accounts.write(w)
	fmt.Fprintln(w)
	queues := &table{header: []string{"UPSTREAM", "ACCOUNT", "PENDING", "DEAD", "OLDEST"}}
	for _, q := range v.Upstreams {
		note := ""
		if !q.Configured {
			note = "not in the configuration: retry its deliveries with --upstream"
		}
		oldest := "-"
		if q.Pending > 0 {
			oldest = age(time.Duration(q.OldestPending) * time.Second)
		}
		queues.row(note, fit(q.Name, 36), fit(q.Account, 12), strconv.FormatInt(q.Pending, 10), strconv.FormatInt(q.Dead, 10), oldest)
	}
	queues.write(w)
	for _, name := range slices.Sorted(maps.Keys(v.CatchUp)) {
		span := v.CatchUp[name]
		fmt.Fprintf(w, "\ncatching up: %s, with the callbacks from %s to %s UTC\n", name, span.From.Format(time.DateTime), span.Until.Format(time.DateTime))
	}
	return nil
}

func (o *operator) bills(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return o.bill(cmd, args[0])
	}
	var list []billView
	if done, err := o.ask(cmd, http.MethodGet, "bills", flags(cmd, "status", "limit", "before"), nil, &list); done || err != nil {
		return err
	}
	t := &table{header: []string{"REFERENCE", "STATUS", "PAID / DUE", "COIN", "AGE"}}
	for _, b := range list {
		status := b.Status
		if b.Stage != "open" {
			status = b.Stage
		}
		t.row("", fit(b.Reference, 24), status, fit(b.Paid, 11)+" / "+fit(b.Due, 11), fit(b.Crypto, 6), age(now().Sub(b.CreatedAt)))
	}
	t.write(cmd.OutOrStdout())
	if len(list) > 0 {
		more(cmd, len(list), list[len(list)-1].Reference)
	}
	return nil
}

// more says how to see the next page, if this one is full.
func more(cmd *cobra.Command, shown int, last string) {
	if limit, err := cmd.Flags().GetInt("limit"); err == nil && shown == limit {
		fmt.Fprintf(cmd.OutOrStdout(), "There may be more: --before %s\n", last)
	}
}

func (o *operator) bill(cmd *cobra.Command, reference string) error {
	var b billDetail
	if done, err := o.ask(cmd, http.MethodGet, "bills/"+url.PathEscape(reference), nil, nil, &b); done || err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	status := b.Status
	if b.Confirming {
		status += ", a payment is being confirmed"
	}
	if b.Stage != "open" {
		status = b.Stage + ": " + b.Problem
	}
	for _, line := range [][2]string{
		{"reference", b.Reference},
		{"order id", b.OrderID},
		{"account", b.Account},
		{"status", status},
		{"price", b.Price.Amount + " " + b.Price.Currency},
		{"due", b.Due + " " + b.Crypto + " on " + b.Network},
		{"paid", b.Paid + " " + b.Crypto},
		{"made", b.CreatedAt.Format(time.DateTime) + " UTC"},
		{"valid until", b.ExpiresAt.Format(time.DateTime) + " UTC"},
	} {
		fmt.Fprintf(w, "%-12s %s\n", line[0], printable(line[1]))
	}
	for _, item := range b.Items {
		fmt.Fprintf(w, "%-12s %d × %s at %s\n", "item", item.Quantity, printable(item.Name), item.Price)
	}
	if b.Address != "" {
		fmt.Fprintf(w, "%-12s %s\n", "address", printable(b.Address))
	}
	if b.Memo != "" {
		fmt.Fprintf(w, "%-12s %s\n", "memo", printable(b.Memo))
	}
	fmt.Fprintln(w)
	payments := &table{header: []string{"PAYMENT", "STATUS", "AMOUNT", "COIN", "ARRIVED"}}
	for _, p := range b.Payments {
		note := ""
		if !p.Counts && p.Status == "success" {
			note = "does not count towards the bill"
		}
		payments.row(note, fit(p.ID, 26), p.Status, fit(p.Amount, 14), fit(p.Crypto+" "+p.Chain, 11), p.ArrivedAt.Format("01-02 15:04"))
	}
	payments.write(w)
	fmt.Fprintln(w)
	writeEvents(w, b.Events)
	return nil
}

// shownID is how much of an event's id tables show; the commands take that much.
const shownID = 16

func writeEvents(w io.Writer, list []eventView) {
	t := &table{header: []string{"EVENT", "TYPE", "SUBJECT", "ORIGIN", "AGE"}}
	for _, e := range list {
		t.row("", e.ID[:min(len(e.ID), shownID)], fit(e.Type, 20), fit(e.Subject, 22), e.Origin, age(now().Sub(e.Time)))
	}
	t.write(w)
}

func (o *operator) events(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		var e struct {
			eventView
			Envelope   json.RawMessage `json:"envelope"`
			Deliveries []deliveryView  `json:"deliveries"`
		}
		if done, err := o.ask(cmd, http.MethodGet, "events/"+url.PathEscape(args[0]), nil, nil, &e); done || err != nil {
			return err
		}
		var text bytes.Buffer
		if err := json.Indent(&text, e.Envelope, "", "  "); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s\n\n", text.Bytes())
		writeDeliveries(cmd.OutOrStdout(), e.Deliveries)
		return nil
	}
	var list []eventView
	if done, err := o.ask(cmd, http.MethodGet, "events", flags(cmd, "limit", "before"), nil, &list); done || err != nil {
		return err
	}
	writeEvents(cmd.OutOrStdout(), list)
	if len(list) > 0 {
		more(cmd, len(list), list[len(list)-1].ID)
	}
	return nil
}

func writeDeliveries(w io.Writer, list []deliveryView) {
	t := &table{header: []string{"ID", "TYPE", "STATE", "UPSTREAM", "NEXT"}}
	for _, d := range list {
		note, next := d.LastError, ""
		if d.State == "delivered" {
			note = ""
		} else if !d.Configured {
			note = strings.TrimPrefix(note+"; the upstream is not in the configuration", "; ")
		}
		switch {
		case d.NextTry != nil:
			next = "in " + age(d.NextTry.Sub(now()))
		case d.State == "pending":
			next = "waits" // behind another of its bill
		}
		t.row(note, strconv.FormatInt(d.ID, 10), fit(d.Type, 20), fmt.Sprintf("%s (%d)", d.State, d.Tries), fit(d.Upstream, 27), next)
	}
	t.write(w)
}

func (o *operator) deliveries(cmd *cobra.Command, _ []string) error {
	var list []deliveryView
	if done, err := o.ask(cmd, http.MethodGet, "deliveries", flags(cmd, "state", "upstream", "limit", "before"), nil, &list); done || err != nil {
		return err
	}
	writeDeliveries(cmd.OutOrStdout(), list)
	if len(list) > 0 {
		more(cmd, len(list), strconv.FormatInt(list[len(list)-1].ID, 10))
	}
	return nil
}

func (o *operator) retry(cmd *cobra.Command, args []string) error {
	for _, id := range args {
		if _, err := strconv.ParseInt(id, 10, 64); err != nil {
			return fmt.Errorf("%q is not the id of a delivery; see: caddy ccpayment deliveries", id)
		}
	}
	for _, id := range args {
		var d deliveryView
		done, err := o.ask(cmd, http.MethodPost, "deliveries/"+id+"/retry", flags(cmd, "upstream"), nil, &d)
		if err != nil {
			return fmt.Errorf("delivery %s: %v", id, err)
		}
		if !done {
			fmt.Fprintf(cmd.OutOrStdout(), "delivery %d of %s to %s is %s\n", d.ID, d.Type, d.Upstream, d.State)
		}
	}
	return nil
}

func (o *operator) replay(cmd *cobra.Command, args []string) error {
	order := make(map[string]any)
	for _, name := range []string{"since", "until"} {
		text := textFlag(cmd, name)
		if text == "" {
			continue
		}
		at, err := parseTime(text)
		if err != nil {
			return fmt.Errorf("--%s: %v", name, err)
		}
		order[name] = at
	}
	if upstream := textFlag(cmd, "upstream"); upstream != "" {
		order["upstream"] = upstream
	}
	if len(args) > 0 {
		order["ids"] = args
	}
	if len(args) == 0 && order["since"] == nil {
		return errors.New("name events by their ids, or a time with --since")
	}
	var sum replayed
	for {
		var r replayed
		done, err := o.ask(cmd, http.MethodPost, "events/replay", nil, order, &r)
		if done || err != nil {
			return err
		}
		sum.Events += r.Events
		sum.Deliveries += r.Deliveries
		if r.Next == "" {
			break
		}
		order["after"] = r.Next
	}
	fmt.Fprintf(cmd.OutOrStdout(), "told again: %d events in %d deliveries\n", sum.Events, sum.Deliveries)
	if sum.Events == 0 {
		return errors.New("there are no such events, or no configured upstream takes their types")
	}
	return nil
}

// parseTime takes a time of day with its date and zone, or how long ago it was.
func parseTime(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if d, err := caddy.ParseDuration(s); err == nil && d > 0 {
		return now().Add(-d).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%q is neither a time like 2026-01-02T15:04:05Z nor a time ago like 3d or 2h", s)
}

func (o *operator) reconcile(cmd *cobra.Command, _ []string) error {
	var r reconciled
	if done, err := o.ask(cmd, http.MethodPost, "reconcile", nil, nil, &r); done || err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "bills asked about: %d\npayments found whose callback had not come: %d\n", r.Bills, r.Found)
	if r.Problem != "" {
		return fmt.Errorf("not all could be asked about: %s", r.Problem)
	}
	return nil
}
