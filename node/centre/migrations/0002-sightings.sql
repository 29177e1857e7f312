-- What sensors saw signatures match, of which no finding was made yet.
CREATE TABLE centre_sighting (seq ROWKEY, sensor TEXT NOT NULL, body BYTES NOT NULL);
