-- +goose Up

-- Every key begins with the app's number, so that the tables can be sharded by
-- app. Instants are Unix milliseconds unless a column says otherwise.

CREATE TABLE users (
    app            BIGINT  NOT NULL,
    username       TEXT    NOT NULL,
    uuid           TEXT    NOT NULL,
    created        BIGINT  NOT NULL,
    modified       BIGINT  NOT NULL,
    -- argon2id in the PHC text form; NULL is a user who has no password
    password_hash  TEXT,
    -- tokens issued before this instant are void
    valid_from     BIGINT  NOT NULL,
    activated      BOOLEAN NOT NULL,
    nickname       TEXT,
    display_style  INTEGER,
    no_disturbing  BOOLEAN,
    no_disturbing_start INTEGER,
    no_disturbing_end   INTEGER,
    notifier_name  TEXT,
    device_token   TEXT,
    device_id      TEXT,
    -- JSON object, group ID to whether its push is muted
    ignored_groups TEXT,
    PRIMARY KEY (app, username)
);
CREATE UNIQUE INDEX users_uuid ON users (app, uuid);
-- the order of lists; UUIDs of one millisecond are in order of creation
CREATE INDEX users_created ON users (app, created, uuid);

-- Deleted users, for the instant before which their tokens are void: whoever
-- takes the ID again must get tokens that are newer.
CREATE TABLE former_users (
    app        BIGINT NOT NULL,
    username   TEXT   NOT NULL,
    valid_from BIGINT NOT NULL,
    PRIMARY KEY (app, username)
);

CREATE TABLE attributes (
    app      BIGINT NOT NULL,
    username TEXT   NOT NULL,
    -- JSON object of strings
    doc      TEXT   NOT NULL,
    -- bytes of its keys and values
    bytes    BIGINT NOT NULL,
    PRIMARY KEY (app, username)
);

-- A friendship is two rows, one for each side.
CREATE TABLE contacts (
    app    BIGINT NOT NULL,
    owner  TEXT   NOT NULL,
    friend TEXT   NOT NULL,
    -- Unix microseconds
    added  BIGINT NOT NULL,
    remark TEXT   NOT NULL,
    PRIMARY KEY (app, owner, friend)
);
CREATE INDEX contacts_added ON contacts (app, owner, added, friend);

-- Requests of clients to become friends that are not answered yet.
CREATE TABLE contact_requests (
    app     BIGINT NOT NULL,
    target  TEXT   NOT NULL,
    sender  TEXT   NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (app, target, sender)
);
CREATE INDEX contact_requests_sender ON contact_requests (app, sender);

CREATE TABLE blocks (
    app     BIGINT NOT NULL,
    owner   TEXT   NOT NULL,
    blocked TEXT   NOT NULL,
    -- Unix microseconds
    added   BIGINT NOT NULL,
    PRIMARY KEY (app, owner, blocked)
);
CREATE INDEX blocks_blocked ON blocks (app, blocked);

CREATE TABLE mutes (
    app      BIGINT  NOT NULL,
    username TEXT    NOT NULL,
    -- 1 chat, 2 groupchat, 3 chatroom
    kind     INTEGER NOT NULL,
    -- -1 is for ever
    until    BIGINT  NOT NULL,
    PRIMARY KEY (app, username, kind)
);
CREATE INDEX mutes_until ON mutes (app, until);

CREATE TABLE usage (
    app   BIGINT NOT NULL,
    quota TEXT   NOT NULL,
    owner TEXT   NOT NULL,
    used  BIGINT NOT NULL,
    PRIMARY KEY (app, quota, owner)
);

CREATE TABLE outbox (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject TEXT NOT NULL,
    data    BYTEA NOT NULL,
    msg_id  TEXT NOT NULL,
    live    BOOLEAN NOT NULL
);
