-- One row for each question that a detective of the roster asked: what replay
-- protection, budgets and the count of independent detectives look up.
CREATE TABLE ask_case (
	number       ROWKEY,
	asker        TEXT NOT NULL,
	organisation TEXT NOT NULL,
	nonce        BYTES NOT NULL,
	question     BYTES NOT NULL,
	fingerprint  BYTES NOT NULL,
	window_from  BIGINT NOT NULL,
	window_to    BIGINT NOT NULL,
	asked        BIGINT NOT NULL,
	expires      BIGINT NOT NULL,
	keys         BIGINT NOT NULL,
	bytes        BIGINT NOT NULL,
	refusal      BIGINT NOT NULL,
	reason       TEXT NOT NULL,
	attempts     BIGINT NOT NULL,
	closed       BIGINT NOT NULL,
	UNIQUE (asker, nonce)
);
CREATE INDEX ask_case_asked ON ask_case (asked);
CREATE INDEX ask_case_same ON ask_case (fingerprint, asked);
-- The operator's record: every entry holds the hash of the one before.
CREATE TABLE ask_entry (
	seq   BIGINT PRIMARY KEY,
	entry BYTES NOT NULL,
	hash  BYTES NOT NULL
);
