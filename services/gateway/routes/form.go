package routes

import (
	"net/url"
	"strings"
)

// ParseForm reads the pairs of a query or of a form. Only "&" separates them:
// a semicolon is a character like any other, as it is to browsers.
func ParseForm(raw string) (url.Values, error) {
	return url.ParseQuery(strings.ReplaceAll(raw, ";", "%3B"))
}
