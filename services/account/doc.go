// Package account is the account service: users, their credentials and tokens,
// attributes, contacts, block lists, push settings and global mutes.
//
// # Events
//
// Everything that others may cache, or that must reach connected devices, goes
// out through the transactional outbox, so that a change and its event never
// part; a call that voids tokens waits until the event is published, as far as
// NATS allows. UserEvents are kept by the stream bus.EventStream, which this
// service makes, for services that were away. RosterEvents, what a user did that
// another is to be shown, are taken from there by the messaging service, which
// delivers them like messages.
//
// # Tokens
//
// A token is verified without this service. What voids it early is one instant
// per user: tokens issued before are void. A change of password, a ban and a
// deletion move that instant to the present and publish it
// (pkg/revocation). Two rules make this exact within a clock's millisecond: a
// token counts as issued when its grant began, before the password was read;
// and no token is issued before the user's instant, which outlives the user's
// deletion, for the next one who takes the ID. Several tokens of a user are
// valid side by side, and issuing one voids none.
//
// # Deletion
//
// Deleting a user deletes what is the user's here: credentials, attributes,
// contacts on both sides, requests, blocks by and of the user, mutes, settings.
// Connections end and tokens are void. Other services follow on the event
// CHANGE_DELETED: messages that the user has sent stay in the conversations of
// those who received them, as people expect of a message they have; what only
// the user could read goes with the retention. Groups and rooms that the user
// owned are their service's to delete. The user ID may be registered again; it
// is then another user, with another UUID.
//
// # Locks
//
// A transaction that adds a row about users first holds these users, in the
// order of their IDs (holdUsers); it changes rows of usage after the rows they
// count, several of one quota in the order of their owners, and the app's own
// count last.
package account
