-- +goose Up

-- JSON array of the push tokens of the user's devices, the newest first.
ALTER TABLE users ADD COLUMN push_info TEXT;
ALTER TABLE users ADD COLUMN push_language TEXT;
ALTER TABLE users ADD COLUMN push_template TEXT;

-- When a user is told of a conversation; with the user as target, of any.
CREATE TABLE notifications (
    app      BIGINT  NOT NULL,
    username TEXT    NOT NULL,
    -- 1 user, 2 group
    kind     INTEGER NOT NULL,
    target   TEXT    NOT NULL,
    -- DEFAULT, ALL, AT or NONE
    type     TEXT    NOT NULL,
    -- "HH:MM-HH:MM" of every day, empty for none
    quiet    TEXT    NOT NULL,
    -- nothing is told before this instant
    until    BIGINT  NOT NULL,
    PRIMARY KEY (app, username, kind, target)
);
CREATE INDEX notifications_target ON notifications (app, kind, target);

CREATE TABLE push_templates (
    app             BIGINT NOT NULL,
    name            TEXT   NOT NULL,
    title_pattern   TEXT   NOT NULL,
    content_pattern TEXT   NOT NULL,
    created         BIGINT NOT NULL,
    updated         BIGINT NOT NULL,
    PRIMARY KEY (app, name)
);
