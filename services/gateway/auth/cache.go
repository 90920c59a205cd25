package auth

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/token"
)

// cacheSlots bounds the cache; a slot holds a token, less than 200 bytes.
const cacheSlots = 4096

// cache remembers tokens whose signature was right, each for the view of the
// app that it was checked against: new keys make a new view. When a token
// expires and whether it was revoked is looked at every time. Each token has
// one slot, chosen by a hash that nobody outside can predict, and pushes out
// what was there.
type cache struct {
	seed  maphash.Seed
	slots []atomic.Pointer[cached]
}

type cached struct {
	app    *catalog.App
	raw    string
	claims token.Claims
}

func newCache() cache {
	return cache{seed: maphash.MakeSeed(), slots: make([]atomic.Pointer[cached], cacheSlots)}
}

func (c *cache) slot(raw string) *atomic.Pointer[cached] {
	return &c.slots[maphash.String(c.seed, raw)%cacheSlots]
}

func (c *cache) get(a *catalog.App, raw string) (token.Claims, bool) {
	e := c.slot(raw).Load()
	if e == nil || e.app != a || e.raw != raw {
		return token.Claims{}, false
	}
	return e.claims, true
}

// put copies the token, which otherwise would hold on to all headers of its
// request.
func (c *cache) put(a *catalog.App, raw string, claims token.Claims) {
	c.slot(raw).Store(&cached{app: a, raw: strings.Clone(raw), claims: claims})
}
