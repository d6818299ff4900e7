-- Version 2: what operators look things up by, the trace a callback came in with, and
-- the catching up after downtime.

ALTER TABLE callbacks ADD COLUMN trace TEXT NOT NULL DEFAULT ''; -- W3C traceparent of the request
ALTER TABLE events ADD COLUMN trace TEXT NOT NULL DEFAULT ''; -- that of the callback it follows from

CREATE INDEX bills_by_creation ON bills (created_at, reference);
CREATE INDEX bills_by_status ON bills (status, created_at, reference);
CREATE INDEX events_by_subject ON events (subject, number);
CREATE INDEX deliveries_dead ON deliveries (account, upstream, number) WHERE state = 'dead';

-- When this server was last seen alive, by account. Only kept while catch_up is on.
CREATE TABLE heartbeats (
	account TEXT PRIMARY KEY,
	at      INTEGER NOT NULL
) WITHOUT ROWID;

-- Spans of time whose callbacks the gateway is to send again, or was asked to.
CREATE TABLE resends (
	number   INTEGER PRIMARY KEY,
	account  TEXT NOT NULL,
	from_at  INTEGER NOT NULL,
	until_at INTEGER NOT NULL,
	state    TEXT NOT NULL, -- planned, asked, or dropped
	tries    INTEGER NOT NULL DEFAULT 0,
	tried_at INTEGER, -- the last time
	problem  TEXT NOT NULL DEFAULT '' -- of the last try
);

CREATE INDEX resends_planned ON resends (account, number) WHERE state = 'planned';
CREATE INDEX resends_by_age ON resends (until_at);
