-- Callbacks that do not say what was paid wait in the state "asking", until the gateway
-- has been asked.

DROP INDEX callbacks_by_age;
CREATE INDEX callbacks_by_age ON callbacks (received_at) WHERE state NOT IN ('received', 'quarantined', 'asking');
CREATE INDEX callbacks_asking ON callbacks (account, due_at, number) WHERE state = 'asking';
