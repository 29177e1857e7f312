-- Copies of signatures that decisions to reset connections name.
CREATE TABLE centre_aside (name TEXT PRIMARY KEY, body BYTES NOT NULL);
