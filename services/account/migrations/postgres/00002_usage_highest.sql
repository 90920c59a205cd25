-- +goose Up

-- Who uses the most of what each user may: the operators' view of limits.
CREATE INDEX usage_highest ON usage (app, quota, used);
CREATE INDEX attributes_bytes ON attributes (app, bytes);
