CREATE TABLE ledger_finding (
	seq ROWKEY, id TEXT NOT NULL UNIQUE, detector TEXT NOT NULL, host TEXT NOT NULL,
	first BIGINT NOT NULL, last BIGINT NOT NULL, body BYTES NOT NULL);
CREATE INDEX ledger_finding_last ON ledger_finding (last);

CREATE TABLE ledger_decision (
	seq ROWKEY, id TEXT NOT NULL UNIQUE, target TEXT NOT NULL, verdict TEXT NOT NULL,
	until BIGINT NOT NULL, body BYTES NOT NULL);
CREATE INDEX ledger_decision_verdict ON ledger_decision (verdict);

CREATE TABLE ledger_receipt (
	decision TEXT NOT NULL, point TEXT NOT NULL, time BIGINT NOT NULL, body BYTES NOT NULL,
	PRIMARY KEY (decision, point));

CREATE TABLE ledger_setting (name TEXT PRIMARY KEY, value BYTES NOT NULL);
