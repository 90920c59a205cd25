// Package history keeps what is read later: the archive with its entries,
// conversations and the position of each partition, how far devices have
// confirmed what, and how long all of that is kept.
package history
