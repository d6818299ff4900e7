package store

import (
	"strings"
	"testing"
)

// TestQueriesTakeTheirIndexes: a scan of a table is fast in a test and in the first
// week of a shop.
func TestQueriesTakeTheirIndexes(t *testing.T) {
	s, _ := open(t)
	s.reader.SetMaxOpenConns(0) // the plans are closed at the end
	for name, query := range map[string]string{
		"unresolved callbacks":     unresolvedCallbacks,
		"next unresolved callback": nextUnresolvedCallback,
		"callbacks to ask about":   askingCallbacks,
		"next callback to ask":     nextAskingCallback,
		"count of open bills":      countOpenBills,
		"expired bills":            expiredBills,
		"next expiry":              nextExpiry,
		"events to remove":         oldEvents,
		"callbacks to remove":      oldCallbacks,
		"bills to remove":          oldBills,
		"an event to remove":       pruneEvent,
		"a callback to remove":     pruneCallback,
		"a bill to remove":         pruneBill,
		"bills to check":           billsToCheck,
		"an announced payment":     announcedTo,
		"next check":               nextCheck,
		"bills of a status":        openBillsOfStatus + " AND (created_at, reference) < (?, ?) ORDER BY created_at DESC, reference DESC LIMIT ?",
		"all bills":                "SELECT reference FROM bills WHERE (created_at, reference) < (?, ?) ORDER BY created_at DESC, reference DESC LIMIT ?",
		"events before one":        eventColumns + "WHERE number < ? ORDER BY number DESC LIMIT ?",
		"events about a bill":      eventColumns + "WHERE subject = ? ORDER BY number DESC LIMIT ?",
		"event by its beginning":   eventColumns + "WHERE id >= ?1 AND id < ?1 || '~' ORDER BY id LIMIT 2",
		"first event of a span":    firstEventSince,
		"events of a span":         eventColumns + eventsSince,
		"pending deliveries":       deliveryColumns + pendingDeliveries + " AND d.number < ? ORDER BY d.number DESC LIMIT ?",
		"dead deliveries":          deliveryColumns + deadDeliveries + " AND d.upstream = ? ORDER BY d.number DESC LIMIT ?",
		"deliveries of an event":   deliveryColumns + "WHERE d.event = ? ORDER BY d.number",
		"due deliveries":           dueDeliveries,
		"next delivery":            nextDelivery,
		"first pending deliveries": firstPending,
		"bill by key":              selectBill + billByKey,
		"bill by token":            selectBill + "WHERE token = ? AND account = ? AND stage = 'open'",
		"bill by reference":        selectBill + "WHERE account = ? AND reference = ?",
	} {
		args := make([]any, strings.Count(query, "?"))
		for i := range args {
			args[i] = 1
		}
		rows, err := s.reader.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatal(name, err)
		}
		defer rows.Close()
		steps := 0
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			steps++
			if strings.Contains(detail, "SCAN") || strings.Contains(detail, "TEMP B-TREE") {
				t.Errorf("%s: %s", name, detail)
			}
		}
		if err := rows.Err(); err != nil || steps == 0 {
			t.Errorf("%s: %d steps, %v", name, steps, err)
		}
	}
}
