-- Batches of sensors that wait to be stored, numbered from 1 for each sensor.
CREATE TABLE sensor_batch (
	member TEXT NOT NULL,
	number BIGINT NOT NULL,
	body   BYTES NOT NULL,
	PRIMARY KEY (member, number)
);

-- What each sensor said so far. last is the number of its last batch, at when it
-- came.
CREATE TABLE sensor_count (
	member  TEXT NOT NULL PRIMARY KEY,
	last    BIGINT NOT NULL,
	at      BIGINT NOT NULL,
	flows   BIGINT NOT NULL,
	packets BIGINT NOT NULL,
	dropped BIGINT NOT NULL,
	skipped BIGINT NOT NULL,
	early   BIGINT NOT NULL,
	lost    BIGINT NOT NULL
);
