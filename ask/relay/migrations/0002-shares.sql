-- Who a card is from: a member of the roster (1) or a stranger (0), for strangers
-- the network, and the wider network around it, and when it last polled.
ALTER TABLE relay_card ADD COLUMN member BIGINT NOT NULL DEFAULT 0;
ALTER TABLE relay_card ADD COLUMN network TEXT NOT NULL DEFAULT '';
ALTER TABLE relay_card ADD COLUMN wide TEXT NOT NULL DEFAULT '';
ALTER TABLE relay_card ADD COLUMN heard BIGINT NOT NULL DEFAULT 0;
CREATE INDEX relay_card_network ON relay_card (network);
CREATE INDEX relay_card_wide ON relay_card (wide);
-- Whose share of the relay a message uses.
ALTER TABLE relay_message ADD COLUMN organisation TEXT NOT NULL DEFAULT '';
CREATE INDEX relay_message_organisation ON relay_message (organisation);
