-- Callbacks that do not say what was paid wait in the state "asking", until the gateway
-- has been asked.

DROP INDEX callbacks_by_age;
CREATE INDEX callbacks_by_age ON callbacks (received_at) WHERE state NOT IN ('received', 'quarantined', 'asking');
CREATE INDEX callbacks_asking ON callbacks (account, due_at, number) WHERE state = 'asking';

-- API v2 names coins by numbers; 0 is for none, -1 for a coin of which two things were
-- told that do not go together.
ALTER TABLE bills ADD COLUMN coin_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE payments ADD COLUMN coin_id INTEGER NOT NULL DEFAULT 0;
