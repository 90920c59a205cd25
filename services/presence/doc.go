// Package presence knows who is connected where. Connections live in a
// JetStream bucket, which every instance mirrors in memory and answers from;
// what outlasts a connection (custom statuses, last login, subscriptions) lives
// in SQL.
//
// # Connections
//
// An entry of the bucket is one device of one user. Every change of it is made
// against the revision it had, so that of two logins of one device one follows
// the other, whatever instance they came to, and the later one stays. The
// instance that makes a change sees it at once, the others as soon as the
// bucket's watch brings it, which takes milliseconds.
//
// A connection counts for as long as its gateway is registered in etcd. When
// the registration is gone, the connections are dropped after a short grace.
//
// # Statuses
//
// What a device last said of itself is a row; whether it is connected is not.
// A row of a device that has logged in only counts while the device is
// connected, so rows need no repair after a crash.
//
// # Locks
//
// index.mu is the innermost lock and never held over I/O. An app's admission
// lock is held over one write into the bucket, and only for apps whose plan
// limits the users online.
package presence
