-- A payload that traps captured, once.
CREATE TABLE centre_payload (
	seq ROWKEY, digest TEXT NOT NULL UNIQUE, proto BIGINT NOT NULL, port BIGINT NOT NULL, trap TEXT NOT NULL,
	first BIGINT NOT NULL, copies BIGINT NOT NULL, body BYTES NOT NULL);
-- What traps were taken from each day, for their quotas.
CREATE TABLE centre_quota (trap TEXT NOT NULL, day TEXT NOT NULL, bytes BIGINT NOT NULL, PRIMARY KEY (trap, day));
-- Reports that no finding was made of yet.
CREATE TABLE centre_report (seq ROWKEY, trap TEXT NOT NULL, body BYTES NOT NULL);
-- Signatures learnt, each with why it is offered or withheld.
CREATE TABLE centre_signature (name TEXT PRIMARY KEY, learned BIGINT NOT NULL, samples BIGINT NOT NULL, problem TEXT NOT NULL, body BYTES NOT NULL);
