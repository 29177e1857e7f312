-- Sums of sizes, and which messages are answered, without reading what is sealed.
DROP INDEX relay_message_organisation;
CREATE INDEX relay_message_size ON relay_message (organisation, size);
CREATE INDEX relay_message_answered ON relay_message (sender, id, answered);
