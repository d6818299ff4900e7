-- Version 2: what operators look things up by, the trace a callback came in with, and
-- the catching up after downtime.

ALTER TABLE callbacks ADD COLUMN trace TEXT NOT NULL DEFAULT ''; -- W3C traceparent of the request
ALTER TABLE events ADD COLUMN trace TEXT NOT NULL DEFAULT ''; -- that of the callback it follows from

CREATE INDEX bills_by_creation ON bills (created_at, reference);
CREATE INDEX bills_by_status ON bills (stage, status, created_at, reference, account);
CREATE INDEX events_by_subject ON events (subject, number);
CREATE INDEX deliveries_dead ON deliveries (account, upstream, number) WHERE state = 'dead';
CREATE INDEX deliveries_not_over ON deliveries (state, number) WHERE state <> 'delivered';

-- How often an operator has had the tries begin anew. The outcome of a try from before
-- then counts for nothing.
ALTER TABLE deliveries ADD COLUMN round INTEGER NOT NULL DEFAULT 0;

-- What catching up after an absence needs to know, by account, while catch_up is on.
CREATE TABLE absences (
	account  TEXT PRIMARY KEY,
	alive_at INTEGER NOT NULL, -- when this server was last seen alive
	from_at  INTEGER, -- the time whose callbacks are still to be asked for, NULL for none
	until_at INTEGER,
	tries    INTEGER NOT NULL DEFAULT 0 -- to ask for the beginning of it
) WITHOUT ROWID;

-- The requests of the last day to send callbacks again, which the gateway limits.
CREATE TABLE resends (
	account  TEXT NOT NULL,
	asked_at INTEGER NOT NULL,
	from_at  INTEGER NOT NULL,
	until_at INTEGER NOT NULL,
	PRIMARY KEY (account, asked_at)
) WITHOUT ROWID;
