-- Version 4: API v2 names coins by numbers. 0 is for none, -1 for a coin of which two
-- things were told that do not go together. Bills of v2 have theirs in the token id.

ALTER TABLE bills ADD COLUMN coin_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE payments ADD COLUMN coin_id INTEGER NOT NULL DEFAULT 0;
UPDATE bills SET coin_id = CAST(token_id AS INTEGER) WHERE token_id GLOB '[0-9]* *';

-- Payments of which a callback has told, and not yet what was paid.
CREATE INDEX payments_announced ON payments (id) WHERE status = 'announced';
