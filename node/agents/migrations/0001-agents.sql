-- Tokens that were given out, by the SHA-256 of their secret. used_by is the
-- SHA-256 of the key that redeemed it.
CREATE TABLE agent_token (
	digest  TEXT NOT NULL PRIMARY KEY,
	name    TEXT NOT NULL,
	role    TEXT NOT NULL,
	created BIGINT NOT NULL,
	expires BIGINT NOT NULL,
	used_by TEXT NOT NULL
);

-- Agents and operators. revoked and seen are 0 for never, configuration is the
-- version in use, problem why another is not. waiting, dropped are of the
-- agent's spool, and received, refused, missed count items here.
CREATE TABLE agent_member (
	name          TEXT NOT NULL PRIMARY KEY,
	role          TEXT NOT NULL,
	host          TEXT NOT NULL,
	program       TEXT NOT NULL,
	enrolled      BIGINT NOT NULL,
	revoked       BIGINT NOT NULL,
	seen          BIGINT NOT NULL,
	configuration TEXT NOT NULL,
	problem       TEXT NOT NULL,
	waiting       BIGINT NOT NULL,
	dropped       BIGINT NOT NULL,
	received      BIGINT NOT NULL,
	refused       BIGINT NOT NULL,
	missed        BIGINT NOT NULL
);

-- Certificates that may be used. Those before one that was used are removed.
CREATE TABLE agent_certificate (
	serial  TEXT NOT NULL PRIMARY KEY,
	member  TEXT NOT NULL,
	used    BIGINT NOT NULL,
	expires BIGINT NOT NULL,
	number  BIGINT NOT NULL
);
CREATE INDEX agent_certificate_member ON agent_certificate (member);

-- The last sequence received from each spool of an agent.
CREATE TABLE agent_spool (
	member   TEXT NOT NULL,
	spool    TEXT NOT NULL,
	received BIGINT NOT NULL,
	at       BIGINT NOT NULL,
	PRIMARY KEY (member, spool)
);

-- Configuration of a role, and of single agents of it, which goes first.
CREATE TABLE agent_document (
	role    TEXT NOT NULL,
	member  TEXT NOT NULL,
	version TEXT NOT NULL,
	format  BIGINT NOT NULL,
	body    BYTES NOT NULL,
	PRIMARY KEY (role, member)
);
