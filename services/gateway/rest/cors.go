package rest

import "net/http"

// Header values that every answer shares; nobody changes them.
var (
	anyOrigin      = []string{"*"}
	exposedHeaders = []string{"X-Request-Id, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"}
	corsMethods    = []string{"GET, POST, PUT, DELETE, OPTIONS"}
	corsHeaders    = []string{"Authorization, Content-Type, Accept, X-Requested-With, X-Request-Id, Share-Secret, Restrict-Access, Thumbnail"}
	corsMaxAge     = []string{"86400"}
	varyHeaders    = []string{"Access-Control-Request-Headers"}
)

const maxRequestHeaders = 1024

// preflight answers a browser that asks what a page of another origin may do:
// everything, because no call trusts cookies.
func (c *call) preflight() {
	h := c.w.Header()
	h["Access-Control-Allow-Methods"] = corsMethods
	h["Access-Control-Max-Age"] = corsMaxAge
	h["Vary"] = varyHeaders
	h["Access-Control-Allow-Headers"] = corsHeaders
	if asked := c.req.Header.Get("Access-Control-Request-Headers"); asked != "" && headerNames(asked) {
		h["Access-Control-Allow-Headers"] = []string{asked}
	}
	h["Allow"] = corsMethods
	h["Content-Type"] = jsonTypes
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write([]byte("{}"))
}

// headerNames reports whether s is a list of header names and nothing else.
func headerNames(s string) bool {
	if len(s) > maxRequestHeaders {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == ',', c == ' ':
		default:
			return false
		}
	}
	return true
}
