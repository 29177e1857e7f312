-- What a detective asked.
CREATE TABLE inquiry (
	number   ROWKEY,
	question TEXT NOT NULL,
	pattern  TEXT NOT NULL,
	hash     TEXT NOT NULL,
	epoch    TEXT NOT NULL,
	decoy    BIGINT NOT NULL,
	started  BIGINT NOT NULL,
	ended    BIGINT NOT NULL,
	state    TEXT NOT NULL,
	result   BYTES
);
CREATE INDEX inquiry_pattern ON inquiry (pattern, hash);
-- What became of it at each witness.
CREATE TABLE inquiry_witness (
	inquiry BIGINT NOT NULL,
	witness TEXT NOT NULL,
	pin     TEXT NOT NULL,
	status  TEXT NOT NULL,
	detail  TEXT NOT NULL,
	flows   BIGINT NOT NULL,
	answers BIGINT NOT NULL,
	opened  BIGINT NOT NULL,
	forged  BIGINT NOT NULL,
	spray   BIGINT NOT NULL,
	noted   BIGINT NOT NULL,
	PRIMARY KEY (inquiry, witness)
);
