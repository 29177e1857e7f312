-- Under which salts each tuple was asked, whatever the pattern it was part of.
CREATE TABLE inquiry_tuple (
	tuple BYTES NOT NULL,
	epoch TEXT NOT NULL,
	asked BIGINT NOT NULL,
	PRIMARY KEY (tuple, epoch)
);
