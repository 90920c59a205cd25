// Package faults does harm to servers under load and counts what became of the
// messages: processes are killed and frozen, disks filled, the log's files torn
// and put back, NATS, PostgreSQL and services cut off. Its tests run for minutes
// and need the build tag faults: make test-faults.
package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/chappe-im/chappe/test/traffic"
)

// Result is what one fault led to.
type Result struct {
	Name string `json:"name"`
	What string `json:"what"`
	Seed uint64 `json:"seed"`
	traffic.Outcome
	// Ready is what /readyz said during the fault, in order; Unready that it was
	// 503 once.
	Ready   string `json:"ready"`
	Unready bool   `json:"-"`
	// Counted is how many acknowledged entries the server counts as lost with the
	// log.
	Counted int `json:"counted_lost"`
	// Note is what else there is to say, such as what was counted as lost.
	Note string `json:"note,omitempty"`
	// Broken are the promises that were not kept.
	Broken []string `json:"broken,omitempty"`
}

// Results reads what the last run with -update wrote; none if there is no file.
func Results(path string) ([]Result, error) {
	raw, err := os.ReadFile(filepath.Clean(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Result
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}
