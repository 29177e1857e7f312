-- until is 0 without an end.
CREATE TABLE ledger_allow (prefix TEXT PRIMARY KEY, until BIGINT NOT NULL, body BYTES NOT NULL);
