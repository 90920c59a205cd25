-- +goose Up
-- +goose StatementBegin
CREATE TABLE conversation (
  id    INTEGER PRIMARY KEY,
  app   INTEGER NOT NULL,
  name  TEXT    NOT NULL,
  kind  INTEGER NOT NULL,
  -- Places up to here were used, though their rows may be gone.
  floor INTEGER NOT NULL DEFAULT 0,
  UNIQUE (app, name)
);
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TABLE message (
  id     INTEGER PRIMARY KEY,
  app    INTEGER NOT NULL,
  conv   INTEGER NOT NULL,
  seq    INTEGER NOT NULL,
  type   INTEGER NOT NULL,
  flags  INTEGER NOT NULL,
  sender TEXT    NOT NULL,
  -- Serialized chappe.bus.v1.Delivery.
  data   BLOB    NOT NULL
);
-- +goose StatementEnd
CREATE UNIQUE INDEX message_place ON message (conv, seq);
-- +goose StatementBegin
CREATE TABLE member (
  app      INTEGER NOT NULL,
  username TEXT    NOT NULL,
  conv     INTEGER NOT NULL,
  peer     TEXT    NOT NULL,
  PRIMARY KEY (app, username, conv)
) WITHOUT ROWID;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TABLE device (
  app      INTEGER NOT NULL,
  username TEXT    NOT NULL,
  resource TEXT    NOT NULL,
  -- Unix milliseconds of the last login.
  seen     INTEGER NOT NULL,
  PRIMARY KEY (app, username, resource)
) WITHOUT ROWID;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TABLE device_position (
  app      INTEGER NOT NULL,
  username TEXT    NOT NULL,
  resource TEXT    NOT NULL,
  conv     INTEGER NOT NULL,
  seq      INTEGER NOT NULL,
  PRIMARY KEY (app, username, resource, conv)
) WITHOUT ROWID;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TABLE log_position (
  partition_no INTEGER PRIMARY KEY,
  -- Place in the partition's stream up to which all is archived.
  stream_seq   INTEGER NOT NULL
);
-- +goose StatementEnd

-- +goose Down
DROP TABLE log_position;
DROP TABLE device_position;
DROP TABLE device;
DROP TABLE member;
DROP TABLE message;
DROP TABLE conversation;
