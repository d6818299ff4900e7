package store

// These queries run again and again over tables that grow. Each must find what it
// wants through an index; a test looks at their plans. The conditions that repeat
// those of a partial index are there so that the index is taken at all.
const (
	callbackColumns = `SELECT number, account, kind, record_id, status, state, asked, denied, signed_at, received_at, trace, body FROM callbacks `

	unresolvedCallbacks = callbackColumns + `WHERE state IN ('received', 'quarantined') AND state = ? AND due_at <= ? ORDER BY due_at, number LIMIT ?`

	askingCallbacks = callbackColumns + `WHERE state = 'asking' AND account = ? AND due_at <= ? ORDER BY due_at, number LIMIT ?`

	nextAskingCallback = `SELECT min(due_at) FROM callbacks WHERE state = 'asking' AND account = ?`

	nextUnresolvedCallback = `SELECT min(due_at) FROM callbacks WHERE state IN ('received', 'quarantined') AND state = ?`

	countOpenBills = `SELECT count(*) FROM bills WHERE stage <> 'abandoned' AND status IN ('awaiting_payment', 'underpaid')
		AND account = ? AND expires_at > ?`

	expiredBills = `SELECT reference FROM bills WHERE stage <> 'abandoned' AND status IN ('awaiting_payment', 'underpaid')
		AND account = ? AND expires_at <= ? AND stage = 'open' ORDER BY expires_at LIMIT ?`

	nextExpiry = `SELECT min(expires_at) FROM bills WHERE stage <> 'abandoned' AND status IN ('awaiting_payment', 'underpaid')
		AND account = ? AND stage = 'open'`

	billsToCheck = `SELECT reference FROM bills WHERE account = ? AND check_at IS NOT NULL AND check_at <= ? ORDER BY check_at LIMIT ?`

	announcedTo = `SELECT p.reference FROM payments p JOIN bills b ON b.reference = p.reference
		WHERE p.id = ? AND p.status = 'announced' AND b.account = ?`

	nextCheck = `SELECT min(check_at) FROM bills WHERE account = ? AND check_at IS NOT NULL`

	dueDeliveries = `SELECT d.number, d.event, e.type, d.subject, d.tries, d.round, e.trace, e.envelope
		FROM deliveries d JOIN events e ON e.id = d.event
		WHERE d.account = ? AND d.upstream = ? AND d.state = 'pending' AND d.due_at IS NOT NULL AND d.due_at <= ?
		ORDER BY d.due_at, d.number LIMIT ?`

	nextDelivery = `SELECT min(due_at) FROM deliveries
		WHERE account = ? AND upstream = ? AND state = 'pending' AND due_at IS NOT NULL AND due_at > ?`

	firstPending = `SELECT number, due_at IS NOT NULL FROM deliveries
		WHERE account = ? AND upstream = ? AND subject = ? AND state = 'pending' ORDER BY number LIMIT 2`

	// The number of a delivery grows with time, so the least one is the oldest.
	countPending = `SELECT q.account, q.upstream, q.n, d.created_at FROM (
			SELECT account, upstream, count(*) AS n, min(number) AS oldest FROM deliveries WHERE state = 'pending' GROUP BY account, upstream
		) q JOIN deliveries d ON d.number = q.oldest`

	// What is not over is little, so it has an index of its own.
	pendingDeliveries = " WHERE d.state <> 'delivered' AND d.state = 'pending'"
	deadDeliveries    = " WHERE d.state <> 'delivered' AND d.state = 'dead'"

	openBillsOfStatus = "SELECT reference FROM bills WHERE stage = 'open' AND status = ?"

	// Events are told again in the order in which they were stored. The least number of
	// a span of time comes from an index of times; the plus keeps the rest from it.
	firstEventSince = `SELECT min(number) FROM events WHERE occurred_at >= ? AND occurred_at < ?`
	eventsSince     = `WHERE number >= ? AND +occurred_at >= ? AND +occurred_at < ? ORDER BY number LIMIT ?`

	countBills = `SELECT account, status, count(*) FROM bills WHERE stage = 'open' GROUP BY status, account ORDER BY account, status`

	countDead = `SELECT account, upstream, count(*), 0 FROM deliveries WHERE state = 'dead' GROUP BY account, upstream`

	countUnresolved = `SELECT state, count(*) FROM callbacks WHERE state IN ('received', 'quarantined') GROUP BY state
		UNION ALL SELECT 'asking', count(*) FROM callbacks WHERE state = 'asking'`

	billByKey = "WHERE account = ? AND idempotency_key = ? AND stage <> 'abandoned'"
)
