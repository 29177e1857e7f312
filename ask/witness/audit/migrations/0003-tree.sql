-- The hashes of the Merkle tree over the entries, as golang.org/x/mod/sumdb/tlog
-- numbers them.
CREATE TABLE ask_tree (
	number BIGINT PRIMARY KEY,
	hash   BYTES NOT NULL
);
-- Signed heads of the tree that others have seen and signed too, the last few.
CREATE TABLE ask_head (
	size BIGINT PRIMARY KEY,
	head TEXT NOT NULL
);
