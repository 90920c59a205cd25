package history

import "embed"

// Migrations of the service's schema, for SQLite and PostgreSQL.
//
//go:embed migrations
var migrationFiles embed.FS
