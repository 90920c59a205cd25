package rest

import (
	"net/http"
	"net/url"
	"strings"
)

// slashInSegment reports whether a segment of a path holds a slash, which is
// written %2F. No name does, so the path is that of nothing.
func slashInSegment(u *url.URL) bool {
	return strings.Contains(u.RawPath, "%2F") || strings.Contains(u.RawPath, "%2f")
}

// plain returns the URL by which the mux finds the call: its path is decoded,
// and a list that is read may end in a slash. ok is false if the slash at the
// end makes it the path of nothing.
func plain(method string, u *url.URL) (_ *url.URL, ok bool) {
	path := u.Path
	if len(path) > 1 && path[len(path)-1] == '/' {
		// Never of another method: DELETE /users/ deletes nobody.
		if path = path[:len(path)-1]; method != http.MethodGet || path[len(path)-1] == '/' {
			return nil, false
		}
	}
	if u.RawPath == "" && len(path) == len(u.Path) {
		return u, true
	}
	found := *u
	found.Path, found.RawPath = path, ""
	return &found, true
}
