-- +goose Up
-- How often the partition's log began anew, behind what had been archived.
ALTER TABLE log_position ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
-- When the stream of this epoch was made, Unix nanoseconds; 0 before it was
-- first looked at.
ALTER TABLE log_position ADD COLUMN created INTEGER NOT NULL DEFAULT 0;
-- Fingerprint of the record at stream_seq; 0 while there is none.
ALTER TABLE log_position ADD COLUMN fingerprint INTEGER NOT NULL DEFAULT 0;
-- Place before the epoch's first record that had not been archived.
ALTER TABLE log_position ADD COLUMN began INTEGER NOT NULL DEFAULT 0;
-- Up to this place records may have been archived in an epoch before.
ALTER TABLE log_position ADD COLUMN repeats INTEGER NOT NULL DEFAULT 0;
-- Records that were acknowledged and are known to be lost, in all epochs.
ALTER TABLE log_position ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE log_position DROP COLUMN lost;
ALTER TABLE log_position DROP COLUMN repeats;
ALTER TABLE log_position DROP COLUMN began;
ALTER TABLE log_position DROP COLUMN fingerprint;
ALTER TABLE log_position DROP COLUMN created;
ALTER TABLE log_position DROP COLUMN epoch;
