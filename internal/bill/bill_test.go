package bill_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// Every bill here is made at noon and valid for one hour. Times are minutes after
// noon: 60 is the deadline, which is no longer within validity.
var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

const deadline = 60

func after(minutes float64) time.Time {
	return noon.Add(time.Duration(minutes * float64(time.Minute)))
}

func amount(s string) decimal.Decimal { return decimal.RequireFromString(s) }

var usdt = bill.Token{Crypto: "USDT", Network: "TRC20", Chain: "TRX", Contract: "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"}

// billOver is an open bill over an amount in USDT.
func billOver(due string) *bill.Bill {
	return &bill.Bill{Pays: usdt, Due: amount(due), CreatedAt: noon, ExpiresAt: after(deadline)}
}

// payment is a payment in the bill's coin that arrived some minutes after noon.
func payment(id string, status bill.PaymentStatus, sum string, minutes float64) bill.Payment {
	return bill.Payment{ID: id, Status: status, Amount: amount(sum), Token: usdt, ArrivedAt: after(minutes)}
}

func confirmed(sum string, minutes float64) bill.Payment {
	return payment(fmt.Sprintf("%s at %v", sum, minutes), bill.Success, sum, minutes)
}

// TestStatusIsTheGatewaysTable walks the table of all eight rows. The bill is over
// 50.0137 USDT.
func TestStatusIsTheGatewaysTable(t *testing.T) {
	for _, tc := range []struct {
		name       string
		payments   []bill.Payment
		now        float64
		want       bill.Status
		paid, left string
	}{
		{"nothing, within validity", nil, 30, bill.Awaiting, "0", "50.0137"},
		{"nothing, a moment before the deadline", nil, deadline - 0.001, bill.Awaiting, "0", "50.0137"},
		{"nothing, exactly at the deadline", nil, deadline, bill.Expired, "0", "50.0137"},
		{"nothing, after the deadline", nil, 90, bill.Expired, "0", "50.0137"},

		{"less, within validity", []bill.Payment{confirmed("20", 10)}, 30, bill.Underpaid, "20", "30.0137"},
		{"less by the smallest part", []bill.Payment{confirmed("50.013699999999999999", 10)}, 30, bill.Underpaid, "50.013699999999999999", "0.000000000000000001"},
		{"less, exactly at the deadline", []bill.Payment{confirmed("20", 10)}, deadline, bill.UnderpaidOverdue, "20", "30.0137"},
		{"less in time, after the deadline", []bill.Payment{confirmed("20", 10)}, 90, bill.UnderpaidOverdue, "20", "30.0137"},
		{"less and late", []bill.Payment{confirmed("20", 70)}, 90, bill.UnderpaidOverdue, "20", "30.0137"},

		{"exactly, within validity", []bill.Payment{confirmed("50.0137", 10)}, 30, bill.Paid, "50.0137", "0"},
		{"exactly, with more zeros", []bill.Payment{confirmed("50.013700000000000000", 10)}, 30, bill.Paid, "50.0137", "0"},
		{"exactly in time, seen after the deadline", []bill.Payment{confirmed("50.0137", 10)}, 90, bill.Paid, "50.0137", "0"},
		{"exactly, a moment before the deadline", []bill.Payment{confirmed("50.0137", deadline-0.001)}, 90, bill.Paid, "50.0137", "0"},
		{"exactly, arriving exactly at the deadline", []bill.Payment{confirmed("50.0137", deadline)}, 90, bill.PaidOverdue, "50.0137", "0"},
		{"exactly and late", []bill.Payment{confirmed("50.0137", 70)}, 90, bill.PaidOverdue, "50.0137", "0"},

		{"more, within validity", []bill.Payment{confirmed("50.0138", 10)}, 30, bill.Overpaid, "50.0138", "0"},
		{"more by the smallest part", []bill.Payment{confirmed("50.013700000000000001", 10)}, 30, bill.Overpaid, "50.013700000000000001", "0"},
		{"more in time, seen after the deadline", []bill.Payment{confirmed("60", 10)}, 90, bill.Overpaid, "60", "0"},
		{"more, arriving exactly at the deadline", []bill.Payment{confirmed("60", deadline)}, 90, bill.OverpaidOverdue, "60", "0"},
		{"more and late", []bill.Payment{confirmed("60", 70)}, 90, bill.OverpaidOverdue, "60", "0"},

		{"exactly in parts", []bill.Payment{confirmed("20", 10), confirmed("30.0137", 20)}, 30, bill.Paid, "50.0137", "0"},
		{"less in parts", []bill.Payment{confirmed("20", 10), confirmed("30", 20)}, 30, bill.Underpaid, "50", "0.0137"},
		{"more in parts", []bill.Payment{confirmed("20", 10), confirmed("30.02", 20)}, 30, bill.Overpaid, "50.02", "0"},
		{"two equal parts are two payments", []bill.Payment{payment("1", bill.Success, "25.00685", 10), payment("2", bill.Success, "25.00685", 10)}, 30, bill.Paid, "50.0137", "0"},
		{"the rest comes late", []bill.Payment{confirmed("20", 10), confirmed("30.0137", 70)}, 90, bill.PaidOverdue, "50.0137", "0"},
		{"the rest and more comes late", []bill.Payment{confirmed("20", 10), confirmed("31", 70)}, 90, bill.OverpaidOverdue, "51", "0"},
		{"completed in time, more comes late", []bill.Payment{confirmed("50.0137", 10), confirmed("1", 70)}, 90, bill.Overpaid, "51.0137", "0"},
		{"the part that was in time is heard of last", []bill.Payment{confirmed("31", 70), confirmed("20", 10)}, 90, bill.OverpaidOverdue, "51", "0"},
		{"completed in time, heard of after a late one", []bill.Payment{confirmed("1", 70), confirmed("50.0137", 10)}, 90, bill.Overpaid, "51.0137", "0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := billOver("50.0137")
			for _, p := range tc.payments {
				b.Apply(p)
			}
			s := b.StateAt(after(tc.now))
			if s.Status != tc.want {
				t.Errorf("status is %s, want %s", s.Status, tc.want)
			}
			if s.Paid.String() != tc.paid || s.Left.String() != tc.left {
				t.Errorf("paid %s and %s left, want %s and %s", s.Paid, s.Left, tc.paid, tc.left)
			}
			if full := tc.left == "0"; s.Status.PaidInFull() != full {
				t.Errorf("%s counts as paid in full: %v", s.Status, !full)
			}
		})
	}
}

func TestAmountsAreAddedUpExactly(t *testing.T) {
	for _, tc := range []struct {
		due   string
		parts []string
		want  bill.Status
	}{
		{"0.279173646007816863", []string{"0.1", "0.079173646007816863", "0.1"}, bill.Paid},
		{"0.279173646007816863", []string{"0.1", "0.079173646007816862", "0.1"}, bill.Underpaid},
		{"0.279173646007816863", []string{"0.1", "0.079173646007816864", "0.1"}, bill.Overpaid},
		{"0.3", []string{"0.1", "0.2"}, bill.Paid},
		{"100000000000000000000.000000000000000001", []string{"100000000000000000000.000000000000000001"}, bill.Paid},
		{"100000000000000000000.000000000000000001", []string{"100000000000000000000"}, bill.Underpaid},
		{"100000000000000000000.000000000000000001", []string{"100000000000000000000", "0.000000000000000001"}, bill.Paid},
		{"100000000000000000000.000000000000000001", []string{"100000000000000000000", "0.000000000000000002"}, bill.Overpaid},
		{"0.000000000000000000000001", []string{"0.000000000000000000000001"}, bill.Paid},
	} {
		b := billOver(tc.due)
		for i, part := range tc.parts {
			b.Apply(payment(strconv.Itoa(i), bill.Success, part, 10))
		}
		if s := b.StateAt(after(30)); s.Status != tc.want {
			t.Errorf("%s of %s: %s, want %s", strings.Join(tc.parts, " + "), tc.due, s.Status, tc.want)
		}
	}
}

// TestAnySplitOfAnAmountPaysItExactly cuts random amounts with 18 decimals into
// random parts and pays them in random order.
func TestAnySplitOfAnAmountPaysItExactly(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 18))
	atto := func(n int64) decimal.Decimal { return decimal.New(n, -18) }
	for range 500 {
		whole := 1 + random.Int64N(1<<62)
		b := billOver(atto(whole).String())

		var parts []bill.Payment
		for rest, n := whole, 1+random.IntN(12); rest > 0; n-- {
			part := rest
			if n > 1 {
				part = 1 + random.Int64N(rest)
			}
			rest -= part
			p := payment(strconv.Itoa(n), bill.Success, atto(part).String(), random.Float64()*deadline)
			parts = append(parts, p)
		}
		random.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })

		for i, p := range parts {
			b.Apply(p)
			s := b.StateAt(after(90))
			if last := i == len(parts)-1; s.Status.PaidInFull() != last {
				t.Fatalf("%s after %d of %d parts: %s", b.Due, i+1, len(parts), s.Status)
			}
			if !s.Paid.Add(s.Left).Equal(b.Due) {
				t.Fatalf("%s: paid %s and left %s are not the whole", b.Due, s.Paid, s.Left)
			}
		}
		if s := b.StateAt(after(90)); s.Status != bill.Paid || s.Paid.String() != b.Due.String() {
			t.Fatalf("%s in %d parts: %s, %s", b.Due, len(parts), s.Status, s.Paid)
		}
	}
}

func TestAPaymentArrivesWhenItIsFirstSeenAndNotWhenItIsConfirmed(t *testing.T) {
	for _, tc := range []struct {
		name     string
		messages []bill.Payment
		want     bill.Status
	}{
		{
			"pending in time, confirmed late",
			[]bill.Payment{payment("1", bill.Pending, "50", 50), payment("1", bill.Success, "50", 80)},
			bill.Paid,
		},
		{
			"confirmation overtakes the pending message",
			[]bill.Payment{payment("1", bill.Success, "50", 80), payment("1", bill.Pending, "50", 50)},
			bill.Paid,
		},
		{
			"the gateway's time is before the first sight",
			[]bill.Payment{payment("1", bill.Pending, "50", 65), payment("1", bill.Success, "50", 55)},
			bill.Paid,
		},
		{
			"the gateway's time comes with a repetition",
			[]bill.Payment{payment("1", bill.Success, "50", 65), payment("1", bill.Success, "50", 55)},
			bill.Paid,
		},
		{
			"pending late, confirmed later",
			[]bill.Payment{payment("1", bill.Pending, "50", 61), payment("1", bill.Success, "50", 80)},
			bill.PaidOverdue,
		},
		{
			"held as risky in time, released late",
			[]bill.Payment{risky(payment("1", bill.Success, "50", 50)), payment("1", bill.Success, "50", 80)},
			bill.Paid,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := billOver("50")
			for _, m := range tc.messages {
				b.Apply(m)
			}
			if s := b.StateAt(after(90)); s.Status != tc.want {
				t.Errorf("status is %s, want %s", s.Status, tc.want)
			}
		})
	}
}

func risky(p bill.Payment) bill.Payment {
	p.Risky = true
	return p
}

// TestEveryOrderOfMessagesEndsInTheSameState sends the messages about a bill in all
// orders in which they can come, each also twice.
func TestEveryOrderOfMessagesEndsInTheSameState(t *testing.T) {
	pending, processing := payment("1", bill.Pending, "50", 10), payment("1", bill.Processing, "50", 20)
	success, failed := payment("1", bill.Success, "50", 70), payment("1", bill.Failed, "50", 40)
	other := payment("2", bill.Success, "7", 30)
	for _, tc := range []struct {
		name     string
		messages []bill.Payment
		want     bill.Status
	}{
		{"success", []bill.Payment{pending, processing, success}, bill.Paid},
		{"success only", []bill.Payment{success}, bill.PaidOverdue},
		{"failure", []bill.Payment{pending, processing, failed}, bill.Expired},
		{"failure and then success after all", []bill.Payment{pending, processing, failed, success}, bill.Paid},
		{"another payment among them", []bill.Payment{pending, processing, success, other}, bill.Overpaid},
		{"held and released", []bill.Payment{pending, risky(success), success}, bill.Paid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for order := range permutations(tc.messages) {
				for _, times := range []int{1, 2} {
					b := billOver("50")
					for _, m := range order {
						for range times {
							b.Apply(m)
						}
					}
					if s := b.StateAt(after(90)); s.Status != tc.want || s.Confirming {
						t.Fatalf("%s, confirming %v, want %s, after %s", s.Status, s.Confirming, tc.want, describe(order))
					}
				}
			}
		})
	}
}

func permutations(list []bill.Payment) func(yield func([]bill.Payment) bool) {
	return func(yield func([]bill.Payment) bool) {
		var walk func(done, rest []bill.Payment) bool
		walk = func(done, rest []bill.Payment) bool {
			if len(rest) == 0 {
				return yield(done)
			}
			for i := range rest {
				next := append(slices.Clone(done), rest[i])
				if !walk(next, slices.Delete(slices.Clone(rest), i, i+1)) {
					return false
				}
			}
			return true
		}
		walk(nil, list)
	}
}

func describe(messages []bill.Payment) string {
	words := make([]string, len(messages))
	for i, m := range messages {
		words[i] = m.ID + " " + string(m.Status)
	}
	return strings.Join(words, ", ")
}

func TestOnlyNewsChangesABill(t *testing.T) {
	first := payment("1", bill.Processing, "20", 10)
	for _, tc := range []struct {
		name string
		next bill.Payment
		news bool
	}{
		{"the same again", first, false},
		{"the same again, later", payment("1", bill.Processing, "20", 15), false},
		{"an earlier state, late", payment("1", bill.Pending, "20", 15), false},
		{"a state that is not documented", payment("1", "rejected", "20", 15), false},
		{"a failure", payment("1", bill.Failed, "20", 15), true},
		{"a confirmation", payment("1", bill.Success, "20", 15), true},
		{"another payment of the same amount", payment("2", bill.Processing, "20", 10), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := billOver("50")
			if !b.Apply(first) {
				t.Fatal("the first message is no news")
			}
			before := slices.Clone(b.Payments)
			if news := b.Apply(tc.next); news != tc.news {
				t.Errorf("news: %v, want %v", news, tc.news)
			}
			if same := reflect.DeepEqual(before, b.Payments); same == tc.news {
				t.Errorf("payments are now %+v", b.Payments)
			}
		})
	}
}

func TestAConfirmationTellsTheFinalAmountAndTransaction(t *testing.T) {
	b := billOver("50")
	b.Apply(payment("1", bill.Pending, "49", 10))
	final := payment("1", bill.Success, "50", 20)
	final.TxID, final.ServiceFee = "0xabc", "0.01"
	b.Apply(final)

	final.ArrivedAt = after(10)
	if want := []bill.Payment{final}; !reflect.DeepEqual(b.Payments, want) {
		t.Errorf("payments are %+v, want %+v", b.Payments, want)
	}
}

func TestOnlyPaymentsInTheBillsOwnCoinCount(t *testing.T) {
	const (
		lower = "0xba2ae424d960c26247dd6c32edc70b295c744c43"
		mixed = "0xbA2aE424d960c26247Dd6c32edC70B295c744C43"
	)
	doge := bill.Token{Crypto: "DOGE", Network: "BEP20", Chain: "BSC", Contract: mixed}
	for _, tc := range []struct {
		name  string
		bill  bill.Token
		pays  bill.Token
		count bool
	}{
		{"the same coin", usdt, usdt, true},
		{"names in another case", usdt, bill.Token{Crypto: "usdt", Chain: "trx", Contract: usdt.Contract}, true},
		{"the network's name in the field of the chain", usdt, bill.Token{Crypto: "USDT", Chain: "TRC20", Contract: usdt.Contract}, true},
		{"no contract told", usdt, bill.Token{Crypto: "USDT", Chain: "TRX"}, true},
		{"no contract known", bill.Token{Crypto: "USDT", Chain: "TRX"}, usdt, true},
		{"a hexadecimal contract without its checksum", doge, bill.Token{Crypto: "DOGE", Chain: "BSC", Contract: lower}, true},
		{"a number in place of a contract", bill.Token{Crypto: "FTM", Chain: "FTM", Contract: "250"}, bill.Token{Crypto: "FTM", Chain: "FTM", Contract: "250"}, true},

		{"another coin on the same chain", usdt, bill.Token{Crypto: "TRX", Chain: "TRX"}, false},
		{"another coin with the same contract", usdt, bill.Token{Crypto: "USDC", Chain: "TRX", Contract: usdt.Contract}, false},
		{"the same coin on another chain", usdt, bill.Token{Crypto: "USDT", Chain: "BSC"}, false},
		{"the network of the payment is not asked", usdt, bill.Token{Crypto: "USDT", Network: "TRC20", Chain: "BSC"}, false},
		{"no chain told", usdt, bill.Token{Crypto: "USDT", Contract: usdt.Contract}, false},
		{"no chain told, and no network known", bill.Token{Crypto: "USDT", Chain: "TRX"}, bill.Token{Crypto: "USDT"}, false},
		{"another contract", usdt, bill.Token{Crypto: "USDT", Chain: "TRX", Contract: "TXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"}, false},
		{"another hexadecimal contract", doge, bill.Token{Crypto: "DOGE", Chain: "BSC", Contract: "0x" + strings.Repeat("0", 40)}, false},
		{"a base58 contract in another case", usdt, bill.Token{Crypto: "USDT", Chain: "TRX", Contract: strings.ToLower(usdt.Contract)}, false},
		{"a bill whose coin is not known yet", bill.Token{}, usdt, false},
		{"nothing told at all", bill.Token{}, bill.Token{}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for status, confirming := range map[bill.PaymentStatus]bool{bill.Success: false, bill.Pending: tc.count} {
				b := billOver("50")
				b.Pays = tc.bill
				p := payment("1", status, "50", 10)
				p.Token = tc.pays
				b.Apply(p)

				want := bill.Awaiting
				if tc.count && status == bill.Success {
					want = bill.Paid
				}
				if s := b.StateAt(after(30)); s.Status != want || s.Confirming != confirming {
					t.Errorf("%s payment: %s, confirming %v; want %s, %v", status, s.Status, s.Confirming, want, confirming)
				}
				if len(b.Payments) != 1 {
					t.Errorf("%s payment is not recorded", status)
				}
			}
		})
	}
}

func TestARiskyPaymentDoesNotCountUntilItIsReleased(t *testing.T) {
	b := billOver("50")
	b.Apply(risky(payment("1", bill.Success, "50", 10)))
	if s := b.StateAt(after(30)); s.Status != bill.Awaiting || !s.Confirming || s.Final {
		t.Errorf("while it is held: %+v", s)
	}
	if !b.Apply(payment("1", bill.Success, "50", 40)) {
		t.Error("its release is no news")
	}
	if s := b.StateAt(after(50)); s.Status != bill.Paid || s.Confirming {
		t.Errorf("once it is released: %+v", s)
	}
	if b.Apply(risky(payment("1", bill.Success, "50", 10))) {
		t.Error("the message that it is held counts again after its release")
	}
	if s := b.StateAt(after(50)); s.Status != bill.Paid {
		t.Errorf("after the repetition: %+v", s)
	}
}

func TestAcceptShortForgivesAShareOfTheAmountAndNoMore(t *testing.T) {
	for _, tc := range []struct {
		percent, due, paid string
		want               bill.Status
		left               string
	}{
		{"0", "200", "199.999999999999999999", bill.Underpaid, "0.000000000000000001"},
		{"0.5", "200", "199", bill.Paid, "0"},
		{"0.5", "200", "198.999999999999999999", bill.Underpaid, "1.000000000000000001"},
		{"0.5", "200", "199.5", bill.Paid, "0"},
		{"0.5", "200", "200", bill.Paid, "0"},
		{"0.5", "200", "200.000000000000000001", bill.Overpaid, "0"},
		{"0.5", "200", "0", bill.Awaiting, "200"},
		{"1", "0.279173646007816863", "0.27638190954773869437", bill.Paid, "0"},
		{"1", "0.279173646007816863", "0.27638190954773869436", bill.Underpaid, "0.00279173646007816864"},
	} {
		t.Run(tc.paid+" of "+tc.due+" less "+tc.percent+" percent", func(t *testing.T) {
			b := billOver(tc.due)
			b.AcceptShort = amount(tc.percent)
			b.Apply(payment("1", bill.Success, tc.paid, 10))
			s := b.StateAt(after(30))
			if s.Status != tc.want || s.Left.String() != tc.left || s.Paid.String() != amount(tc.paid).String() {
				t.Errorf("%s, paid %s, left %s; want %s, left %s", s.Status, s.Paid, s.Left, tc.want, tc.left)
			}
		})
	}

	t.Run("nothing more is asked for once the accepted sum is seen", func(t *testing.T) {
		b := billOver("200")
		b.AcceptShort = amount("0.5")
		b.Apply(payment("1", bill.Pending, "199", 10))
		if s := b.StateAt(after(30)); s.Payable || !s.Confirming {
			t.Errorf("state is %+v", s)
		}
	})
	t.Run("the payment that reaches the accepted sum decides whether it was in time", func(t *testing.T) {
		b := billOver("200")
		b.AcceptShort = amount("0.5")
		b.Apply(confirmed("199", 50))
		b.Apply(confirmed("1", 70))
		if s := b.StateAt(after(90)); s.Status != bill.Paid {
			t.Errorf("status is %s", s.Status)
		}
	})
}

func TestFlagsTellWhetherToWaitAndWhetherToSendMoney(t *testing.T) {
	const listened = deadline + 24*60
	seen := func(sum string, minutes float64) bill.Payment { return payment("seen", bill.Pending, sum, minutes) }
	for _, tc := range []struct {
		name                       string
		payments                   []bill.Payment
		now                        float64
		confirming, payable, final bool
	}{
		{"nothing paid", nil, 30, false, true, false},
		{"part paid", []bill.Payment{confirmed("20", 10)}, 30, false, true, false},
		{"part seen", []bill.Payment{seen("20", 10)}, 30, true, false, false},
		{"the whole seen", []bill.Payment{seen("50", 10)}, 30, true, false, false},
		{"more than the whole seen", []bill.Payment{seen("60", 10)}, 30, true, false, false},
		{"part paid, the rest seen", []bill.Payment{confirmed("20", 10), seen("30", 20)}, 30, true, false, false},
		{"part paid, part of the rest seen", []bill.Payment{confirmed("20", 10), seen("29.99", 20)}, 30, true, false, false},
		{"the whole being processed", []bill.Payment{payment("1", bill.Processing, "50", 10)}, 30, true, false, false},
		{"the whole held as risky", []bill.Payment{risky(confirmed("50", 10))}, 30, true, false, false},
		{"the whole failed", []bill.Payment{payment("1", bill.Failed, "50", 10)}, 30, false, true, false},
		{"paid", []bill.Payment{confirmed("50", 10)}, 30, false, false, true},
		{"overpaid", []bill.Payment{confirmed("60", 10)}, 30, false, false, true},
		{"paid, and another payment seen", []bill.Payment{confirmed("50", 10), seen("1", 20)}, 30, true, false, false},

		{"nothing paid at the deadline", nil, deadline, false, false, false},
		{"part paid at the deadline", []bill.Payment{confirmed("20", 10)}, deadline, false, false, false},
		{"the whole seen in time, after the deadline", []bill.Payment{seen("50", 10)}, 90, true, false, false},
		{"paid late", []bill.Payment{confirmed("50", 70)}, 90, false, false, true},
		{"nothing paid, a moment before the end of listening", nil, listened - 0.001, false, false, false},
		{"nothing paid at the end of listening", nil, listened, false, false, true},
		{"part paid at the end of listening", []bill.Payment{confirmed("20", 10)}, listened, false, false, true},
		{"the whole seen, at the end of listening", []bill.Payment{seen("50", 10)}, listened, true, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := billOver("50")
			for _, p := range tc.payments {
				b.Apply(p)
			}
			s := b.StateAt(after(tc.now))
			if s.Confirming != tc.confirming || s.Payable != tc.payable || s.Final != tc.final {
				t.Errorf("confirming %v, payable %v, final %v; want %v, %v, %v",
					s.Confirming, s.Payable, s.Final, tc.confirming, tc.payable, tc.final)
			}
		})
	}
}

func TestABillWhoseAmountIsNotKnownYetIsNeverPaid(t *testing.T) {
	b := billOver("0")
	b.Apply(confirmed("50", 10))
	if s := b.StateAt(after(30)); s.Status.PaidInFull() || s.Final {
		t.Errorf("state is %+v", s)
	}
}

// TestTimeAloneMovesOnlyWhatIsNotPaid looks at bills minute by minute.
func TestTimeAloneMovesOnlyWhatIsNotPaid(t *testing.T) {
	for before, then := range map[string][2]bill.Status{
		"0":  {bill.Awaiting, bill.Expired},
		"20": {bill.Underpaid, bill.UnderpaidOverdue},
		"50": {bill.Paid, bill.Paid},
		"60": {bill.Overpaid, bill.Overpaid},
	} {
		b := billOver("50")
		b.Apply(confirmed(before, 0))
		for minute := range 2 * deadline {
			want := then[0]
			if minute >= deadline {
				want = then[1]
			}
			if s := b.StateAt(after(float64(minute))); s.Status != want {
				t.Fatalf("%s of 50 paid, minute %d: %s, want %s", before, minute, s.Status, want)
			}
		}
	}
}
