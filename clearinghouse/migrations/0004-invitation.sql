-- An invitation to become a member. Its secret is kept as a digest only. The key is
-- that of who showed it first, and others counts those who came later with another.
CREATE TABLE clearinghouse_invitation (
	digest BYTES NOT NULL PRIMARY KEY,
	member TEXT NOT NULL,
	class TEXT NOT NULL,
	roles BIGINT NOT NULL,
	numbers TEXT NOT NULL,
	made BIGINT NOT NULL,
	expires BIGINT NOT NULL,
	state TEXT NOT NULL,
	public BYTES,
	shown BIGINT NOT NULL,
	others BIGINT NOT NULL
);
CREATE INDEX clearinghouse_invitation_member ON clearinghouse_invitation (member);
