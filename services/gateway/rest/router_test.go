package rest

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/services/gateway/routes"
)

// TestRouterIsTheMux asks both for the endpoint of every path that the routes'
// own segments can make, longer and shorter ones included.
func TestRouterIsTheMux(t *testing.T) {
	t.Parallel()
	h, err := New(t.Context(), Config{}, Deps{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}, routes.All())
	require.NoError(t, err)
	words := map[string]bool{"": true, "x:y": true, "%41": true, "ü": true}
	paths := map[string]bool{"": true, "/": true, "x": true, strings.Repeat("/x", maxSegments+1): true}
	for _, e := range h.endpoints {
		for _, s := range e.segments {
			words[s] = true
		}
	}
	for _, e := range h.endpoints {
		own := strings.Split(e.example(), "/")
		paths[e.example()], paths[e.example()+"/"], paths[e.example()+"/x"] = true, true, true
		paths[strings.Join(own[:len(own)-1], "/")] = true
		for i := 1; i < len(own); i++ {
			for w := range words {
				other := append([]string(nil), own...)
				other[i] = w
				paths[strings.Join(other, "/")] = true
			}
		}
	}
	found := 0
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, "get"} {
		for path := range paths {
			p := &probe{}
			h.mux.ServeHTTP(nowhere{}, p.request(method, path))
			params := map[string]string{}
			require.Same(t, p.matched, h.router.match(method, path, params), "%s %q", method, path)
			if p.matched != nil {
				require.Equal(t, p.params, params, "%s %q", method, path)
				found++
			}
		}
	}
	require.Greater(t, found, 10*len(h.endpoints))
}
