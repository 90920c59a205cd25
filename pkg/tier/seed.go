package tier

import (
	_ "embed" // the compiled-in tiers are data
	"encoding/json"
	"fmt"
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

var catalogue = sync.OnceValue(func() []Call {
	var calls []Call
	if err := json.Unmarshal(catalogueJSON, &calls); err != nil {
		panic("tier: the compiled-in catalogue: " + err.Error())
	}
	return calls
})

var calls = sync.OnceValue(func() map[string]Call {
	m := make(map[string]Call, len(catalogue()))
	for _, c := range catalogue() {
		m[c.ID] = c
	}
	return m
})

// Catalogue lists all calls that may have a rule.
func Catalogue() []Call { return slices.Clone(catalogue()) }

// LookupCall finds a call by its rule ID.
func LookupCall(id string) (Call, bool) {
	c, ok := calls()[id]
	return c, ok
}

// Seeds gives the compiled-in tiers, smallest first.
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
		for k, v := range seed.Common {
			own[k] = v
		}
		d, err := fromTree(own)
		if err != nil {
			return nil, fmt.Errorf("compiled-in tier %v: %w", own["name"], err)
		}
		docs = append(docs, d)
	}
	return docs, nil
}
