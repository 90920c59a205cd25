package presence

import (
	"fmt"
	"strings"
)

// Keys of the bucket are <app>.<user>.<resource>. Resources come from clients,
// so bytes that a key cannot hold are written as "=" and two hexadecimal
// digits.

const hexDigits = "0123456789ABCDEF"

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

func keyToken(b *strings.Builder, s string) {
	for i := range len(s) {
		if c := s[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('=')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
}

func connectionKey(app, user, resource string) string {
	var b strings.Builder
	b.Grow(len(app) + len(user) + len(resource) + 8)
	keyToken(&b, app)
	b.WriteByte('.')
	keyToken(&b, user)
	b.WriteByte('.')
	keyToken(&b, resource)
	return b.String()
}

func parseConnectionKey(key string) (app, user, resource string, err error) {
	parts := strings.Split(key, ".")
	if len(parts) != 3 {
		return "", "", "", fmt.Errorf("connection key %q does not have three parts", key)
	}
	for i, p := range parts {
		if parts[i], err = fromKeyToken(p); err != nil {
			return "", "", "", fmt.Errorf("connection key %q: %w", key, err)
		}
	}
	return parts[0], parts[1], parts[2], nil
}

func fromKeyToken(s string) (string, error) {
	if strings.IndexByte(s, '=') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '=' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%q ends within an escape", s)
		}
		hi, lo := strings.IndexByte(hexDigits, s[i+1]), strings.IndexByte(hexDigits, s[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("%q holds a bad escape", s)
		}
		b.WriteByte(byte(hi<<4 | lo)) //nolint:gosec // both are below 16
		i += 2
	}
	return b.String(), nil
}
