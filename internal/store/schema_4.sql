-- Version 4: API v2 names coins by numbers. 0 is for none, -1 for a coin of which two
-- things were told that do not go together.

ALTER TABLE bills ADD COLUMN coin_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE payments ADD COLUMN coin_id INTEGER NOT NULL DEFAULT 0;
