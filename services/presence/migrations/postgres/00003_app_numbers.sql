-- +goose Up

-- Every key begins with the app's number, as in the other services, so that the
-- tables can be sharded by app. app_numbers, made by the version before, holds
-- the number of every app that has rows.

CREATE TABLE users (
    app       BIGINT NOT NULL,
    username  TEXT   NOT NULL,
    ext       TEXT   NOT NULL DEFAULT '',
    -- Unix milliseconds of the last login or logout
    last_time BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (app, username)
);
INSERT INTO users (app, username, ext, last_time)
SELECT n.number, o.username, o.ext, o.last_time FROM presence_users o JOIN app_numbers n ON n.app = o.app;
DROP TABLE presence_users;

CREATE TABLE devices (
    app       BIGINT  NOT NULL,
    username  TEXT    NOT NULL,
    resource  TEXT    NOT NULL,
    status    TEXT    NOT NULL,
    -- of a device that has logged in, status holds only while it is connected
    logged_in BOOLEAN NOT NULL,
    -- Unix milliseconds
    updated   BIGINT  NOT NULL,
    PRIMARY KEY (app, username, resource)
);
INSERT INTO devices (app, username, resource, status, logged_in, updated)
SELECT n.number, o.username, o.resource, o.status, o.logged_in, o.updated FROM presence_devices o JOIN app_numbers n ON n.app = o.app;
DROP TABLE presence_devices;

ALTER TABLE subscribers RENAME TO old_subscribers;
CREATE TABLE subscribers (
    app      BIGINT NOT NULL,
    username TEXT   NOT NULL,
    -- Unix milliseconds
    touched  BIGINT NOT NULL,
    PRIMARY KEY (app, username)
);
INSERT INTO subscribers (app, username, touched)
SELECT n.number, o.username, o.touched FROM old_subscribers o JOIN app_numbers n ON n.app = o.app;
DROP TABLE old_subscribers;

DROP INDEX subscriptions_by_target;
DROP INDEX subscriptions_by_end;
ALTER TABLE subscriptions RENAME TO old_subscriptions;
CREATE TABLE subscriptions (
    app        BIGINT NOT NULL,
    subscriber TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    -- Unix milliseconds
    expires    BIGINT NOT NULL,
    PRIMARY KEY (app, subscriber, target)
);
INSERT INTO subscriptions (app, subscriber, target, expires)
SELECT n.number, o.subscriber, o.target, o.expires FROM old_subscriptions o JOIN app_numbers n ON n.app = o.app;
DROP TABLE old_subscriptions;
CREATE INDEX subscriptions_by_target ON subscriptions (app, target, subscriber);
CREATE INDEX subscriptions_by_end ON subscriptions (expires);

DROP TABLE app_numbers;
