// Package routes says of every REST call what the protos and their HTTP rules
// do not: which call rate governs it, what it costs, who may make it, how its
// body is read and what its answer looks like. One file per area holds the
// entries of its RPCs.
package routes

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/services/gateway/auth"
	"github.com/chappe-im/chappe/services/gateway/restjson"
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
	// Pattern is the path of the binding, with its parameters in braces.
	Pattern string
}

// Proof is a credential within a call. A service answers a wrong one with the
// reason invalid_grant or unauthorized.
type Proof struct {
	// User is the user whose password it is; empty for an app's client secret.
	User ident.UserID
	// Changes says that the call changes something, so that it has to be
	// admitted before it is made.
	Changes bool
}

// Route is one RPC's entry.
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
	// Cost returns the units that a call costs; without it, 1.
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

	// Proves tells which credential a decoded request carries, beside or in place
	// of a token; false if none that anybody could guess at.
	Proves func(a *Access, req proto.Message) (Proof, bool)

	// Query names the request fields that the query may set, by their wire
	// names.
	Query []string
	// Body says how the body is read, where it is not the message's plain JSON.
	Body restjson.Body
	// Send marks calls that distribute messages.
	Send bool
	// ErrorResult repeats the description of errors in a field "result".
	ErrorResult bool
	Answer      Answer
}

// Descriptor describes the RPC.
func (r *Route) Descriptor() protoreflect.MethodDescriptor {
	service, name, _ := strings.Cut(r.Method[1:], "/")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service).Append(protoreflect.Name(name)))
	if err != nil {
		panic(fmt.Sprintf("routes: %s: %v", r.Method, err)) // the constant of the generated code names it
	}
	return d.(protoreflect.MethodDescriptor) // it is named like one
}

// RuleFor returns the rule that governs a request, or the name under which it
// is counted if it has none; req nil is one that could not be decoded.
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

// CostOf returns the units of a request, at least 1.
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
	for _, r := range slices.Concat(accounts(), attributes(), relations(), pushes(), mutes(), presence(), messages()) {
		if t[r.Method] != nil {
			panic(fmt.Sprintf("routes: %s has two entries", r.Method))
		}
		t[r.Method] = &r
	}
	return t
}
