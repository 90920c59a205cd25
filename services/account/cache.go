package account

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// cacheAge is the longest that an entry is believed: it bounds the harm of a
// lost event.
const cacheAge = 3 * time.Second

const cacheShards = 32

// cacheKey names a user.
type cacheKey struct{ app, user string }

// cacheEntry is what single-row reads want of a user. It never changes; what
// is not known is nil.
type cacheEntry struct {
	user       *user
	attributes map[string]string
	read       time.Time
}

// cache spares reads of single rows. It follows this process's own writes at
// once and those of others by their events. Nothing that decides about access
// is read from it: grants of tokens always ask the database.
type cache struct {
	now    func() time.Time
	seed   maphash.Seed
	shards [cacheShards]cacheShard
}

type cacheShard struct {
	mu sync.Mutex
	// forgotten counts what was forgotten here, so that a row that was read
	// before a change is not kept after it.
	forgotten uint64
	entries   *simplelru.LRU[cacheKey, *cacheEntry]
}

func newCache(size int, now func() time.Time) (*cache, error) {
	c := &cache{now: now, seed: maphash.MakeSeed()}
	for i := range c.shards {
		lru, err := simplelru.NewLRU[cacheKey, *cacheEntry](max(1, size/cacheShards), nil)
		if err != nil {
			return nil, err
		}
		c.shards[i].entries = lru
	}
	return c, nil
}

func (c *cache) shard(k cacheKey) *cacheShard {
	return &c.shards[maphash.Comparable(c.seed, k)%cacheShards]
}

// get gives what is known of a user, never nil, and a mark for put.
func (c *cache) get(k cacheKey) (e *cacheEntry, mark uint64) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries.Get(k)
	if ok && c.now().Sub(e.read) > cacheAge {
		s.entries.Remove(k)
		ok = false
	}
	if !ok {
		e = &cacheEntry{}
	}
	return e, s.forgotten
}

// put keeps what was read since get gave the mark, beside what is known.
func (c *cache) put(k cacheKey, mark uint64, u *user, attributes map[string]string) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forgotten != mark {
		return
	}
	e := &cacheEntry{user: u, attributes: attributes, read: c.now()}
	if old, ok := s.entries.Peek(k); ok {
		if e.user == nil {
			e.user, e.read = old.user, old.read
		}
		if e.attributes == nil {
			e.attributes, e.read = old.attributes, old.read
		}
	}
	s.entries.Add(k, e)
}

func (c *cache) forget(k cacheKey) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgotten++
	s.entries.Remove(k)
}

func (c *cache) forgetAll() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.forgotten++
		s.entries.Purge()
		s.mu.Unlock()
	}
}

// onEvent forgets the user that another instance has changed.
func (s *Service) onEvent(m *natsx.Msg) {
	var e busv1.UserEvent
	if err := proto.Unmarshal(m.Data, &e); err != nil {
		s.logger.Warn("unreadable user event", "subject", m.Subject, obs.KeyError, err)
		s.cache.forgetAll()
		return
	}
	s.cache.forget(cacheKey{e.GetApp(), e.GetUser()})
}
