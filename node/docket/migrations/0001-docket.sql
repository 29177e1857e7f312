CREATE TABLE docket_finding (
	seq ROWKEY, id TEXT NOT NULL UNIQUE, detector TEXT NOT NULL, host TEXT NOT NULL,
	first BIGINT NOT NULL, last BIGINT NOT NULL, body BYTES NOT NULL);
CREATE INDEX docket_finding_last ON docket_finding (last);

CREATE TABLE docket_decision (
	seq ROWKEY, id TEXT NOT NULL UNIQUE, target TEXT NOT NULL, verdict TEXT NOT NULL,
	until BIGINT NOT NULL, body BYTES NOT NULL);
CREATE INDEX docket_decision_verdict ON docket_decision (verdict);

CREATE TABLE docket_receipt (
	decision TEXT NOT NULL, point TEXT NOT NULL, time BIGINT NOT NULL, body BYTES NOT NULL,
	PRIMARY KEY (decision, point));

CREATE TABLE docket_setting (name TEXT PRIMARY KEY, value BYTES NOT NULL);
