-- The network from which an objection was filed, until it is answered.
ALTER TABLE clearinghouse_objection ADD COLUMN network TEXT NOT NULL DEFAULT '';
