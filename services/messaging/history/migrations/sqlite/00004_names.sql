-- +goose Up
-- Tables are named in the plural, like those of the other services, and columns
-- by what they hold.
ALTER TABLE conversation RENAME TO conversations;
ALTER TABLE message RENAME TO messages;
ALTER TABLE member RENAME TO conversation_members;
ALTER TABLE device RENAME TO devices;
ALTER TABLE device_position RENAME TO device_positions;
ALTER TABLE log_position RENAME TO log_positions;

-- Every seq up to here was given out, though its row may be gone.
ALTER TABLE conversations RENAME COLUMN floor TO last_seq;
ALTER TABLE messages RENAME COLUMN conv TO conversation_id;
ALTER TABLE conversation_members RENAME COLUMN conv TO conversation_id;
-- What has this seq or a smaller one was for a former user of that name.
ALTER TABLE conversation_members RENAME COLUMN since TO visible_from;
ALTER TABLE device_positions RENAME COLUMN conv TO conversation_id;

-- +goose Down
ALTER TABLE device_positions RENAME COLUMN conversation_id TO conv;
ALTER TABLE conversation_members RENAME COLUMN visible_from TO since;
ALTER TABLE conversation_members RENAME COLUMN conversation_id TO conv;
ALTER TABLE messages RENAME COLUMN conversation_id TO conv;
ALTER TABLE conversations RENAME COLUMN last_seq TO floor;
ALTER TABLE log_positions RENAME TO log_position;
ALTER TABLE device_positions RENAME TO device_position;
ALTER TABLE devices RENAME TO device;
ALTER TABLE conversation_members RENAME TO member;
ALTER TABLE messages RENAME TO message;
ALTER TABLE conversations RENAME TO conversation;
