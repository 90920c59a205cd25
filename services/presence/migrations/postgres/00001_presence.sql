-- +goose Up
CREATE TABLE presence_users (
    app       TEXT   NOT NULL,
    username  TEXT   NOT NULL,
    ext       TEXT   NOT NULL DEFAULT '',
    last_time BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (app, username)
);

CREATE TABLE presence_devices (
    app       TEXT    NOT NULL,
    username  TEXT    NOT NULL,
    resource  TEXT    NOT NULL,
    status    TEXT    NOT NULL,
    logged_in BOOLEAN NOT NULL,
    updated   BIGINT  NOT NULL,
    PRIMARY KEY (app, username, resource)
);

CREATE TABLE subscribers (
    app      TEXT   NOT NULL,
    username TEXT   NOT NULL,
    touched  BIGINT NOT NULL,
    PRIMARY KEY (app, username)
);

CREATE TABLE subscriptions (
    app        TEXT   NOT NULL,
    subscriber TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    expires    BIGINT NOT NULL,
    PRIMARY KEY (app, subscriber, target)
);
CREATE INDEX subscriptions_by_target ON subscriptions (app, target, subscriber);
CREATE INDEX subscriptions_by_end ON subscriptions (expires);

-- +goose Down
DROP TABLE subscriptions;
DROP TABLE subscribers;
DROP TABLE presence_devices;
DROP TABLE presence_users;
