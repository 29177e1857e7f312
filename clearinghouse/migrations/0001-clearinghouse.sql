-- A pattern that was reported. Its row number is its age.
CREATE TABLE clearinghouse_pattern (
	id ROWKEY,
	digest BYTES NOT NULL UNIQUE,
	text TEXT NOT NULL
);

-- A report as it was signed. Signer, member and class never leave this table.
CREATE TABLE clearinghouse_report (
	id ROWKEY,
	digest BYTES NOT NULL UNIQUE,
	pattern BYTES NOT NULL,
	signer BYTES NOT NULL,
	member TEXT NOT NULL,
	class TEXT NOT NULL,
	received BIGINT NOT NULL,
	until BIGINT NOT NULL,
	body BYTES NOT NULL,
	voided BIGINT NOT NULL,
	why TEXT NOT NULL
);
CREATE INDEX clearinghouse_report_until ON clearinghouse_report (until);
CREATE INDEX clearinghouse_report_received ON clearinghouse_report (received);

-- What is published: one row for each host of a group, hosts as 16 bytes.
CREATE TABLE clearinghouse_entry (
	host BYTES NOT NULL,
	grp TEXT NOT NULL,
	first BIGINT NOT NULL,
	last BIGINT NOT NULL,
	sources BIGINT NOT NULL,
	witnesses BIGINT NOT NULL,
	confidence BIGINT NOT NULL,
	listed BIGINT NOT NULL,
	until BIGINT NOT NULL,
	PRIMARY KEY (host, grp)
);
CREATE INDEX clearinghouse_entry_group ON clearinghouse_entry (grp, host);

CREATE TABLE clearinghouse_group (
	name TEXT PRIMARY KEY,
	document TEXT NOT NULL
);
CREATE TABLE clearinghouse_group_pattern (
	pattern BYTES PRIMARY KEY,
	grp TEXT NOT NULL
);

-- Every step of what was published.
CREATE TABLE clearinghouse_change (
	id ROWKEY,
	time BIGINT NOT NULL,
	host BYTES NOT NULL,
	kind TEXT NOT NULL,
	entry TEXT NOT NULL
);
CREATE INDEX clearinghouse_change_host ON clearinghouse_change (host, id);
CREATE INDEX clearinghouse_change_time ON clearinghouse_change (time);

CREATE TABLE clearinghouse_batch (
	number BIGINT PRIMARY KEY,
	time BIGINT NOT NULL
);

CREATE TABLE clearinghouse_objection (
	name TEXT PRIMARY KEY,
	prefix TEXT NOT NULL,
	reason TEXT NOT NULL,
	contact TEXT NOT NULL,
	received BIGINT NOT NULL,
	state TEXT NOT NULL,
	until BIGINT NOT NULL,
	answer TEXT NOT NULL
);

CREATE TABLE clearinghouse_epoch (
	day TEXT PRIMARY KEY,
	name TEXT NOT NULL
);
