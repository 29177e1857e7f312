-- The last head of each member's record that the clearinghouse was shown and signed.
CREATE TABLE clearinghouse_head (
	public BYTES NOT NULL PRIMARY KEY,
	size BIGINT NOT NULL,
	root BYTES NOT NULL,
	head TEXT NOT NULL,
	shown BIGINT NOT NULL,
	conflicts BIGINT NOT NULL
);
