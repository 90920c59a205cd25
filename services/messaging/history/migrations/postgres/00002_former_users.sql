-- +goose Up
-- Places up to here were for a user of that name who has been deleted: whoever
-- takes the name sees nothing of them.
ALTER TABLE member ADD COLUMN since BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE member DROP COLUMN since;
