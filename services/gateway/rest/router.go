package rest

import (
	"net/http"
	"strings"
)

// maxSegments bounds the segments of a path that can match a route.
const maxSegments = 12

// router finds the endpoint of a call as the mux does, for the mux tries every
// pattern there is and makes two copies of the request on the way. It knows
// only calls that have an endpoint; what is wrong with others the mux says.
type router struct {
	// byMethod holds the endpoints of a method by their number of segments, those
	// that are tried first in front.
	byMethod map[string]*[maxSegments + 1][]*endpoint
}

// add enters an endpoint that is tried before all that were added before it,
// as in the mux.
func (r *router) add(method string, e *endpoint) bool {
	n := len(e.segments)
	if n > maxSegments {
		return false
	}
	if r.byMethod == nil {
		r.byMethod = make(map[string]*[maxSegments + 1][]*endpoint)
	}
	of := r.byMethod[method]
	if of == nil {
		of = new([maxSegments + 1][]*endpoint)
		r.byMethod[method] = of
	}
	of[n] = append([]*endpoint{e}, of[n]...)
	return true
}

// match gives the endpoint of a call, or nil, and puts the parameters of its
// path into params.
func (r *router) match(method, path string, params map[string]string) *endpoint {
	of := r.byMethod[method]
	if of == nil || !strings.HasPrefix(path, "/") {
		return nil
	}
	var segments [maxSegments]string
	n := 0
	for rest, more := path[1:], true; more; n++ {
		if n == maxSegments {
			return nil
		}
		segments[n], rest, more = strings.Cut(rest, "/")
	}
	for _, e := range of[n] {
		if e.fits(segments[:n]) {
			for i, name := range e.params {
				if name != "" {
					params[name] = segments[i]
				}
			}
			return e
		}
	}
	return nil
}

// fits reports whether the segments of a path are those of the pattern.
func (e *endpoint) fits(segments []string) bool {
	// The first two are the app's names everywhere.
	for i := len(segments) - 1; i >= 0; i-- {
		if e.params[i] == "" && e.segments[i] != segments[i] {
			return false
		}
	}
	return true
}

// serve serves a call whose endpoint is known, or lets the mux say why there
// is none.
func (h *Handler) serve(c *call, r *http.Request) {
	if c.params == nil {
		c.params = make(map[string]string, maxSegments/2)
	}
	ctx := &callContext{Context: r.Context(), c: c}
	if e := h.router.match(r.Method, r.URL.Path, c.params); e != nil {
		h.serveRouted(e, e.next, &c.w, r.WithContext(ctx), c.params)
		return
	}
	h.mux.ServeHTTP(&c.w, r.WithContext(ctx))
}
