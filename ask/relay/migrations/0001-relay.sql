-- The cards of the witnesses that look in.
CREATE TABLE relay_card (
	witness BYTES NOT NULL PRIMARY KEY,
	card    BYTES NOT NULL,
	seen    BIGINT NOT NULL
);
-- Messages, and the answers to them once they are there.
CREATE TABLE relay_message (
	number   ROWKEY,
	id       BYTES NOT NULL,
	sender   BYTES NOT NULL,
	receiver BYTES NOT NULL,
	expires  BIGINT NOT NULL,
	sealed   BYTES NOT NULL,
	answered BIGINT NOT NULL,
	size     BIGINT NOT NULL,
	answer   BYTES,
	UNIQUE (sender, id)
);
CREATE INDEX relay_letter_receiver ON relay_message (receiver, answered);
CREATE INDEX relay_letter_expires ON relay_message (expires);
