package tier

import (
	_ "embed" // the schema is given out as a file
	"slices"
	"sync"
)

//go:embed schema.json
var schemaJSON []byte

// Schema gives the JSON Schema (draft 2020-12) of a tier document. It says all
// that Parse checks place by place; what concerns several places, such as a
// rule that names a bucket that does not exist, only Parse sees.
func Schema() []byte { return schemaJSON }

// kind is the JSON type of a node.
type kind string

const (
	object  kind = "object"
	list    kind = "array"
	integer kind = "integer"
	text    kind = "string"
	boolean kind = "boolean"
)

// node says what may stand at a place of the document. The tree of nodes is
// the one source of both the checks and the schema file.
type node struct {
	kind     kind
	doc      string
	nullable bool

	// Objects: fixed names, or, if elem is set, free ones that must be in keys
	// (if given) and match namePattern.
	props    map[string]*node
	required []string
	elem     *node
	keys     func() []string
	// either holds names of which exactly one must occur.
	either []string
	// whole objects are complete also within overrides, and are replaced, not
	// merged, by them.
	whole bool
	// Lists.
	nonEmpty bool

	min, max int64
	enum     func() []string
	// pattern holds for strings; a string without one is short free text.
	pattern string
}

const (
	namePattern = "^[a-z][a-z0-9_-]{0,31}$"
	maxText     = 200

	maxCount  = 1_000_000_000
	maxAmount = 1 << 53
	// maxFactor and maxBase keep their product a rate that the pacer can
	// count.
	maxFactor = 10_000
	maxBase   = 100_000
	maxDays   = 36_500
)

func words(w ...string) func() []string { return func() []string { return w } }

var ruleIDs = sync.OnceValue(func() []string {
	ids := make([]string, 0, len(catalogue())+len(clientCalls))
	for _, c := range slices.Concat(catalogue(), clientCalls) {
		ids = append(ids, c.ID)
	}
	return ids
})

var (
	limitNode = &node{
		kind: object, doc: "At most count units in any second or minute.", whole: true,
		required: []string{"count", "per", "unit", "scope"},
		props: map[string]*node{
			"count": {kind: integer, max: maxCount, doc: "0 refuses every call."},
			"per":   {kind: text, enum: words(PerSecond, PerMinute)},
			"unit":  {kind: text, enum: words(UnitCall, UnitMessage), doc: "message: a call costs as many units as it has targets."},
			"scope": {kind: text, enum: words(ScopeApp, ScopeUser), doc: "user: each user of the app has a count of its own."},
		},
	}
	limitsNode = &node{kind: list, elem: limitNode, nonEmpty: true, doc: "All of them must be passed."}
	amountNode = &node{kind: integer, max: maxAmount, nullable: true, doc: "null is unlimited."}
	idNode     = &node{kind: text, enum: ruleIDs}

	documentNode = &node{
		kind: object, doc: "A tier: every quota, size, retention and call rate of a plan.",
		required: []string{"name", "quotas", "retention_days", "sizes", "patterns", "rate_counting", "rules", "downstream"},
		props: map[string]*node{
			"name":  {kind: text, pattern: namePattern},
			"title": {kind: text},
			"quotas": {
				kind: object, doc: "How many of a thing may exist; 0 means that it is not offered.",
				required: quotaNames, props: named(quotaNames, amountNode),
			},
			"retention_days": {kind: integer, min: 1, max: maxDays, nullable: true, doc: "Days for which history, roaming and offline messages stay."},
			"sizes": {
				kind: object, doc: "Bytes or characters, as the names say; null is no bound of its own.",
				required: sizeNames, props: named(sizeNames, amountNode),
			},
			"patterns": {
				kind: object, doc: "Regular expressions.",
				required: patternNames, props: named(patternNames, &node{kind: text}),
			},
			"rate_counting": {
				kind: object, required: []string{"per_ip", "per_ip_except", "default"},
				props: map[string]*node{
					"per_ip":        {kind: boolean, doc: "Count each limit per app also per client address."},
					"per_ip_except": {kind: list, elem: idNode},
					"per_ip_percent": {
						kind: integer, min: 1, max: 100, nullable: true,
						doc: "Share of an app's limit that one address may use. At 100, the default, the app's own count already sees to it.",
					},
					"default": limitNode,
				},
			},
			"shared_buckets": {
				kind: object, doc: "Allowances that several rules draw on.",
				elem: &node{kind: object, whole: true, required: []string{"limits"}, props: map[string]*node{"limits": limitsNode}},
			},
			"rules": {
				kind: object, doc: "Rates by call; a REST call without a rule has the default rate, clients without one have the compiled-in tier's.",
				keys: ruleIDs,
				elem: &node{
					kind: object, whole: true, either: []string{"bucket", "limits"},
					props: map[string]*node{
						"bucket":      {kind: text, pattern: namePattern},
						"limits":      limitsNode,
						"alternative": {kind: list, elem: limitNode, nonEmpty: true, doc: "A rate stated elsewhere, for the record; not enforced."},
					},
				},
			},
			"downstream": {
				kind: object, doc: "Cap on deliveries a second: factor times base. What exceeds it waits.",
				required: []string{"factor", "base", "apply_to", "rules", "max_backlog_seconds"},
				props: map[string]*node{
					"factor":              {kind: integer, min: 1, max: maxFactor, nullable: true, doc: "null turns the cap off."},
					"base":                {kind: integer, min: 1, max: maxBase},
					"apply_to":            {kind: list, elem: &node{kind: text, enum: words(ApplyREST, ApplyClient)}},
					"rules":               {kind: list, elem: idNode, doc: "Refused while the backlog is longer than max_backlog_seconds."},
					"max_backlog_seconds": {kind: integer, min: 1, max: 86_400},
				},
			},
		},
	}
)

func named(names []string, n *node) map[string]*node {
	m := make(map[string]*node, len(names))
	for _, name := range names {
		m[name] = n
	}
	return m
}

// child gives the node of a member, nil if there is none of that name.
func (n *node) child(key string) *node {
	if n.elem != nil {
		return n.elem
	}
	return n.props[key]
}
