-- What people decided about signatures, by name. It outlives learning them again.
CREATE TABLE centre_lifecycle (name TEXT PRIMARY KEY, body BYTES NOT NULL);
