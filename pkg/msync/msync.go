// Package msync is the client protocol (MSYNC) as bytes: frames, names (JIDs),
// messages, and how what happened is told to clients. Services say what
// happened as busv1 events and know none of this.
//
// Everything is encoded by appending: a delivery costs no message tree and no
// reflection, and what several devices get is encoded once. Field numbers are
// those of msync.proto; a test holds them against the generated code.
package msync

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/chappe-im/chappe/pkg/ident"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// Domains of JIDs.
const (
	DomainUser  = "easemob.com"
	DomainGroup = "conference.easemob.com"
)

// Domain returns the domain of a conversation's peer.
func Domain(kind busv1.Kind) string {
	if kind == busv1.Kind_KIND_GROUP || kind == busv1.Kind_KIND_ROOM {
		return DomainGroup
	}
	return DomainUser
}

// directQueue names the queue of what is pushed past the queues. No user, group
// or room can have this name, so that it never meets a queue being pulled.
const directQueue = "~push"

// DirectJID returns the name of the queue of what is pushed past the queues.
func DirectJID() []byte { return JID("", directQueue, DomainUser) }

// JID returns the encoded name of a user, group or room, which also names the
// queue of the conversation with it.
func JID(app ident.AppKey, name, domain string) []byte {
	return appendJID(make([]byte, 0, 8+len(app)+len(name)+len(domain)), app, name, domain, "")
}

// appendJID appends a JID without its tag; empty parts are left out.
func appendJID(b []byte, app ident.AppKey, name, domain, resource string) []byte {
	if app != "" {
		b = appendString(b, 1, string(app))
	}
	b = appendString(b, 2, name)
	if domain != "" {
		b = appendString(b, 3, domain)
	}
	if resource != "" {
		b = appendString(b, 4, resource)
	}
	return b
}

func sizeJID(app ident.AppKey, name, domain, resource string) int {
	n := sizeField(len(name))
	for _, size := range [...]int{len(app), len(domain), len(resource)} {
		if size != 0 {
			n += sizeField(size)
		}
	}
	return n
}

func appendTag(b []byte, field protowire.Number, t protowire.Type) []byte {
	return protowire.AppendTag(b, field, t)
}

func appendUint(b []byte, field protowire.Number, v uint64) []byte {
	b = appendTag(b, field, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

func appendString(b []byte, field protowire.Number, v string) []byte {
	b = appendTag(b, field, protowire.BytesType)
	return protowire.AppendString(b, v)
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	b = appendTag(b, field, protowire.BytesType)
	return protowire.AppendBytes(b, v)
}

// sizeField is the size of a length-delimited field below number 16.
func sizeField(n int) int { return 1 + protowire.SizeBytes(n) }
