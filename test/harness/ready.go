package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Ready returns what a server says of itself at /readyz: the status, and which
// of its dependencies it names as unreachable. The status is 0 when it does not
// answer within a second.
func (s *Server) Ready(ctx context.Context) (status int, body string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Ops+"/readyz", nil)
	if err != nil {
		return 0, ""
	}
	resp, err := API.Do(req)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	var doc map[string]any
	_ = json.NewDecoder(resp.Body).Decode(&doc)
	return resp.StatusCode, strings.Join(faults("", doc), ", ")
}

// faults lists what a body of /readyz says is not well: names whose value is
// false, and texts.
func faults(prefix string, doc map[string]any) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(doc)) {
		switch v := doc[k].(type) {
		case bool:
			if !v && k != "ready" {
				out = append(out, prefix+k)
			}
		case string:
			if v != "" && v != "ok" {
				out = append(out, fmt.Sprintf("%s%s: %s", prefix, k, v))
			}
		case map[string]any:
			out = append(out, faults("", v)...)
		}
	}
	return out
}
