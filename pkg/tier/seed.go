package tier

import (
	_ "embed" // the compiled-in tiers are data
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
)

//go:embed seed.json
var seedJSON []byte

//go:embed catalogue.json
var catalogueJSON []byte

// Call describes one rule ID: the call that it governs.
type Call struct {
	ID     string   `json:"id"`
	Module string   `json:"module"`
	Title  string   `json:"title"`
	Method string   `json:"method"`
	Paths  []string `json:"paths"`
	// Targets says that the call has targets, so that it can be counted in
	// messages.
	Targets bool `json:"targets,omitempty"`
}

// Rules of what connected clients send. They are about no REST call.
const (
	// RuleClientMessage counts messages and everything else that clients send
	// and is not a receipt.
	RuleClientMessage = "client_send_message"
	// RuleClientReceipt counts receipts: delivered, read, conversation read.
	RuleClientReceipt = "client_send_receipt"
)

// clientCalls are what the two rules govern.
var clientCalls = []Call{
	{ID: RuleClientMessage, Module: "client", Title: "Send a message from a connected client", Targets: true},
	{ID: RuleClientReceipt, Module: "client", Title: "Send a receipt from a connected client"},
}

var catalogue = sync.OnceValue(func() []Call {
	var calls []Call
	if err := json.Unmarshal(catalogueJSON, &calls); err != nil {
		panic("tier: the compiled-in catalogue: " + err.Error())
	}
	return calls
})

var calls = sync.OnceValue(func() map[string]Call {
	m := make(map[string]Call, len(catalogue())+len(clientCalls))
	for _, c := range slices.Concat(catalogue(), clientCalls) {
		m[c.ID] = c
	}
	return m
})

// Catalogue lists all REST calls that may have a rule.
func Catalogue() []Call { return slices.Clone(catalogue()) }

// ClientCalls lists what connected clients do that has a rule.
func ClientCalls() []Call { return slices.Clone(clientCalls) }

// LookupCall finds a call by its rule ID.
func LookupCall(id string) (Call, bool) {
	c, ok := calls()[id]
	return c, ok
}

// clientRules holds the compiled-in tiers' rules for connected clients, by tier
// and ID.
var clientRules = sync.OnceValue(func() map[string]map[string]RuleDocument {
	var seed struct {
		Tiers []struct {
			Name  string                  `json:"name"`
			Rules map[string]RuleDocument `json:"rules"`
		} `json:"tiers"`
	}
	if err := json.Unmarshal(seedJSON, &seed); err != nil {
		panic("tier: the compiled-in tiers: " + err.Error())
	}
	m := make(map[string]map[string]RuleDocument, len(seed.Tiers))
	for _, t := range seed.Tiers {
		m[t.Name] = t.Rules
	}
	return m
})

// largest is the compiled-in tier whose rules for clients a tier of another
// name gets that has none.
const largest = "enterprise"

// complete adds the rules for connected clients that a document does not have:
// documents that were written before there were such rules, and those that
// leave them out, are limited all the same. What a document says stays.
func (d *Document) complete() {
	defaults, ok := clientRules()[d.Name]
	if !ok {
		defaults = clientRules()[largest]
	}
	for id, rule := range defaults {
		if _, ok := d.Rules[id]; !ok && d.Rules != nil {
			d.Rules[id] = rule
		}
	}
}

// Seeds gives the compiled-in tiers, smallest first. A tier has its own rules
// and those that all have in common.
func Seeds() ([]*Document, error) {
	var seed struct {
		Tiers  []map[string]any `json:"tiers"`
		Common map[string]any   `json:"common"`
	}
	if err := decode(seedJSON, &seed); err != nil {
		return nil, fmt.Errorf("compiled-in tiers: %w", err)
	}
	docs := make([]*Document, 0, len(seed.Tiers))
	for _, own := range seed.Tiers {
		rules := map[string]any{}
		for _, from := range []any{own["rules"], seed.Common["rules"]} {
			if m, ok := from.(map[string]any); ok {
				maps.Copy(rules, m)
			}
		}
		maps.Copy(own, seed.Common)
		own["rules"] = rules
		d, err := fromTree(own)
		if err != nil {
			return nil, fmt.Errorf("compiled-in tier %v: %w", own["name"], err)
		}
		docs = append(docs, d)
	}
	return docs, nil
}
