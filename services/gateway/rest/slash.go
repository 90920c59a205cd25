package rest

import (
	"net/url"
	"strings"
)

// A slash that is written %2F belongs to its segment. The mux would take it for
// the end of the segment, in every mode that decodes all of a parameter, so it
// stands for a byte that no path has on the way through it: paths are UTF-8.
const (
	hiddenSlash        = "\xff"
	escapedHiddenSlash = "%FF"
)

var slashHider = strings.NewReplacer("%2F", escapedHiddenSlash, "%2f", escapedHiddenSlash)

// hideSlashes returns a URL whose path is decoded but for the slashes within
// segments, which are hidden.
func hideSlashes(u *url.URL) *url.URL {
	path, err := url.PathUnescape(slashHider.Replace(u.RawPath))
	if err != nil {
		// A raw path that cannot be decoded is not how the path was sent.
		path = u.Path
	}
	hidden := *u
	hidden.Path, hidden.RawPath = path, ""
	return &hidden
}

// showSlashes decodes the slashes within parameters.
func showSlashes(params map[string]string) {
	for name, v := range params {
		if strings.Contains(v, hiddenSlash) {
			params[name] = strings.ReplaceAll(v, hiddenSlash, "/")
		}
	}
}

// hasSlash reports whether a path has a hidden slash.
func hasSlash(u *url.URL) bool { return strings.Contains(u.Path, hiddenSlash) }
