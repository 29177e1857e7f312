-- What each organisation used in a span of time, so that budgets are read without
-- counting questions. The organisation "*" is all of them, without questions that
-- were refused. Questions are compared by what they may open.
CREATE TABLE ask_usage (
	span         BIGINT NOT NULL,
	organisation TEXT NOT NULL,
	questions    BIGINT NOT NULL,
	keys         BIGINT NOT NULL,
	bytes        BIGINT NOT NULL,
	addresses    BIGINT NOT NULL,
	hosts        BIGINT NOT NULL,
	PRIMARY KEY (organisation, span)
);
ALTER TABLE ask_case ADD COLUMN bits BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ask_case ADD COLUMN asked_keys BYTES;
ALTER TABLE ask_case ADD COLUMN hosts BIGINT NOT NULL DEFAULT 0;
