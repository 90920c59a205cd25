// Package routes says of every REST call what the protos and their HTTP rules
// do not: which call rate governs it, what it costs, who may make it and what
// its answer looks like. One file per area holds the entries of its RPCs.
package routes

import (
	"fmt"
	"maps"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/services/gateway/auth"
)

// Policy says who may make a call.
type Policy uint8

// The policies.
const (
	// AppOnly takes an app token.
	AppOnly Policy = iota + 1
	// AppOrSelf takes an app token, or the token of the user whom the path
	// names.
	AppOrSelf
	// AppOrUser takes the token of the app or of any of its users.
	AppOrUser
	// Open takes everybody. Authorize, if there is one, looks at who it was.
	Open
)

// Access is what is known of the caller of an Open call.
type Access struct {
	App *catalog.App
	// Principal is zero unless the call had a valid token.
	Principal auth.Principal
	// TokenError says why there is no principal.
	TokenError error
	// Query is the call's, without "?". Of a call with a body the query sets no
	// fields by itself.
	Query string
}

// Route is one RPC's part of the table.
type Route struct {
	// Method is the RPC's full name, "/package.Service/Method".
	Method string
	// Rules are the IDs of all rules that may govern the call, Rule chooses one
	// for a decoded request; without it there is just one.
	Rules []string
	Rule  func(req proto.Message) string
	// Unlisted takes the place of Rules for calls that have no rule in any tier:
	// the tier's default rate governs them, and they are counted by themselves
	// under this name. It is the ID of no rule.
	Unlisted string
	// Cost gives the units that a call costs; without it, 1.
	Cost func(req proto.Message) int64

	Policy Policy
	// Self names the path parameter that AppOrSelf compares.
	Self string
	// NotSelf is the error of a user who is not the one that AppOrSelf asks for;
	// without it, auth.NotAllowed.
	NotSelf func() error
	// Authorize completes and refuses decoded requests; by then the policy has
	// been applied.
	Authorize func(a *Access, req proto.Message) error

	// Query names the request fields that the query may set, by their wire
	// names.
	Query []string
	// Send marks calls that distribute messages.
	Send bool
	// ErrorResult repeats the description of errors in a field "result".
	ErrorResult bool
	// Render writes the fields of the answer.
	Render func(e *Envelope, req, resp proto.Message)
}

// RuleFor gives the rule that governs a request, or the name under which it is
// counted if it has none; req nil is one that could not be decoded.
func (r *Route) RuleFor(req proto.Message) string {
	switch {
	case r.Unlisted != "":
		return r.Unlisted
	case r.Rule == nil || req == nil:
		return r.Rules[0]
	default:
		return r.Rule(req)
	}
}

// CostOf gives the units of a request, at least 1.
func (r *Route) CostOf(req proto.Message) int64 {
	if r.Cost == nil || req == nil {
		return 1
	}
	return max(1, r.Cost(req))
}

// Table holds all routes by their methods.
type Table map[string]*Route

// All makes the table of all REST calls.
func All() Table {
	t := make(Table)
	for _, area := range []Table{accounts(), attributes(), relations(), pushes(), mutes(), presence(), messages()} {
		for method := range area {
			if _, twice := t[method]; twice {
				panic(fmt.Sprintf("routes: %s has two entries", method))
			}
		}
		maps.Copy(t, area)
	}
	return t
}

// add enters a route whose request and answer have these types.
func add[Req, Resp proto.Message](t Table, r Route, render func(e *Envelope, req Req, resp Resp)) {
	r.Render = func(e *Envelope, req, resp proto.Message) {
		render(e, req.(Req), resp.(Resp)) //nolint:forcetypeassert // both come from the client stub of this method
	}
	t[r.Method] = &r
}
