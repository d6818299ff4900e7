-- Version 1. Times are Unix milliseconds in UTC, amounts are decimal text.

CREATE TABLE bills (
	reference       TEXT PRIMARY KEY, -- merchant_order_id at the gateway
	token           TEXT NOT NULL UNIQUE, -- the secret part of the bill's URL
	account         TEXT NOT NULL,
	stage           TEXT NOT NULL, -- reserved, open, or abandoned
	problem         TEXT NOT NULL DEFAULT '', -- why it was abandoned
	idempotency_key TEXT NOT NULL,
	request_hash    TEXT NOT NULL, -- what was asked for with that key
	order_id        TEXT NOT NULL, -- the gateway's id
	items           TEXT NOT NULL, -- JSON
	note            TEXT NOT NULL,
	price           TEXT NOT NULL,
	currency        TEXT NOT NULL,
	hosted          INTEGER NOT NULL,
	payment_url     TEXT NOT NULL, -- of a hosted bill
	method          TEXT NOT NULL,
	token_id        TEXT NOT NULL, -- the gateway's id of the coin on its network
	crypto          TEXT NOT NULL,
	network         TEXT NOT NULL,
	chain           TEXT NOT NULL,
	contract        TEXT NOT NULL,
	address         TEXT NOT NULL,
	memo            TEXT NOT NULL,
	due             TEXT NOT NULL, -- in the coin; 0 while unknown
	accept_short    TEXT NOT NULL, -- percent
	status          TEXT NOT NULL,
	confirming      INTEGER NOT NULL,
	paid            TEXT NOT NULL,
	seq             INTEGER NOT NULL, -- counts visible changes
	created_at      INTEGER NOT NULL,
	expires_at      INTEGER NOT NULL,
	check_at        INTEGER, -- when to ask the gateway about it, NULL for never
	updated_at      INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX bills_to_check ON bills (account, check_at) WHERE check_at IS NOT NULL;
CREATE INDEX bills_by_age ON bills (expires_at);
CREATE UNIQUE INDEX bills_by_idempotency_key ON bills (account, idempotency_key)
	WHERE stage <> 'abandoned';
CREATE INDEX bills_unpaid ON bills (account, expires_at)
	WHERE stage <> 'abandoned' AND status IN ('awaiting_payment', 'underpaid');

CREATE TABLE payments (
	reference   TEXT NOT NULL REFERENCES bills ON DELETE CASCADE,
	id          TEXT NOT NULL, -- the gateway's record id
	status      TEXT NOT NULL,
	amount      TEXT NOT NULL,
	crypto      TEXT NOT NULL,
	network     TEXT NOT NULL,
	chain       TEXT NOT NULL,
	contract    TEXT NOT NULL,
	txid        TEXT NOT NULL,
	service_fee TEXT NOT NULL,
	risky       INTEGER NOT NULL,
	arrived_at  INTEGER NOT NULL,
	PRIMARY KEY (reference, id)
) WITHOUT ROWID;

-- The inbox: every callback that was answered with "success".
CREATE TABLE callbacks (
	number      INTEGER PRIMARY KEY,
	account     TEXT NOT NULL,
	kind        TEXT NOT NULL, -- order, deposit, …, or the gateway's word for an unknown one
	record_id   TEXT NOT NULL,
	status      TEXT NOT NULL, -- of the transaction, as the gateway says
	state       TEXT NOT NULL, -- received, quarantined, resolved, refuted, or doubted
	problem     TEXT NOT NULL DEFAULT '',
	asked       INTEGER NOT NULL DEFAULT 0, -- how often the gateway was asked about a quarantined one
	denied      INTEGER NOT NULL DEFAULT 0, -- how often it answered that it does not know it
	due_at      INTEGER NOT NULL, -- when to resolve it
	signed_at   INTEGER NOT NULL,
	received_at INTEGER NOT NULL,
	resolved_at INTEGER,
	body        BLOB NOT NULL
);

CREATE INDEX callbacks_by_age ON callbacks (received_at) WHERE state NOT IN ('received', 'quarantined');
CREATE UNIQUE INDEX callbacks_once ON callbacks (account, kind, record_id, status);
CREATE INDEX callbacks_unresolved ON callbacks (state, due_at, number)
	WHERE state IN ('received', 'quarantined');

-- What upstreams are told. The envelope is the CloudEvent as it is sent.
CREATE TABLE events (
	number      INTEGER PRIMARY KEY,
	id          TEXT NOT NULL UNIQUE,
	account     TEXT NOT NULL,
	type        TEXT NOT NULL,
	subject     TEXT NOT NULL,
	origin      TEXT NOT NULL, -- callback, reconcile, or timer
	occurred_at INTEGER NOT NULL,
	envelope    TEXT NOT NULL
);

CREATE INDEX events_by_age ON events (occurred_at);

-- One row for each event and upstream. Of the pending ones with the same upstream
-- and subject only the first has a due time; the others wait behind it.
CREATE TABLE deliveries (
	number      INTEGER PRIMARY KEY,
	event       TEXT NOT NULL REFERENCES events (id) ON DELETE CASCADE,
	account     TEXT NOT NULL,
	upstream    TEXT NOT NULL,
	subject     TEXT NOT NULL,
	state       TEXT NOT NULL, -- pending, delivered, or dead
	tries       INTEGER NOT NULL DEFAULT 0,
	due_at      INTEGER, -- of the next try
	last_status INTEGER NOT NULL DEFAULT 0, -- HTTP status of the last try, 0 without an answer
	last_error  TEXT NOT NULL DEFAULT '',
	created_at  INTEGER NOT NULL,
	updated_at  INTEGER NOT NULL
);

CREATE INDEX deliveries_of_event ON deliveries (event);
CREATE INDEX deliveries_due ON deliveries (account, upstream, due_at)
	WHERE state = 'pending' AND due_at IS NOT NULL;
CREATE INDEX deliveries_waiting ON deliveries (account, upstream, subject, number)
	WHERE state = 'pending';
