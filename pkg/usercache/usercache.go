// Package usercache keeps what services have read about users, bounded in size
// and age, and never keeps what was read before an event that changed it.
//
// A reader calls Get, which returns a Mark when the value is missing, reads the
// value where it is stored, and hands it to Put with that Mark. If the user was
// forgotten in between, Put drops the value: it may have been read before the
// change.
package usercache

import (
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	shardCount = 32
	// generationCount is how many counters of forgotten users a shard has. Two
	// users who share one cost a value that could have been kept, never one that
	// must not be.
	generationCount = 64
)

// Key names a user of an app ("org#app").
type Key struct{ App, User string }

// Mark is a moment before a read: what was known to be forgotten then, and when
// it was. It belongs to the key that it was given for.
type Mark struct {
	generation uint64
	at         time.Time
}

// Cache holds a value for each of the users that were read last. It is safe for
// concurrent use.
type Cache[V any] struct {
	maxAge time.Duration
	now    func() time.Time
	seed   maphash.Seed
	shards [shardCount]shard[V]
}

type shard[V any] struct {
	mu          sync.Mutex
	generations [generationCount]uint64
	entries     *simplelru.LRU[Key, entry[V]]
}

type entry[V any] struct {
	value V
	read  time.Time
}

// New makes a cache of about size users (at least one for each of its 32
// shards). Values are returned for maxAge after the moment at which their read
// began, which bounds the harm of a lost event. now is the clock.
func New[V any](size int, maxAge time.Duration, now func() time.Time) (*Cache[V], error) {
	if size < 1 || maxAge <= 0 || now == nil {
		return nil, errors.New("usercache: size and age must be positive, and a clock given")
	}
	c := &Cache[V]{maxAge: maxAge, now: now, seed: maphash.MakeSeed()}
	for i := range c.shards {
		entries, err := simplelru.NewLRU[Key, entry[V]](max(1, size/shardCount), nil)
		if err != nil {
			return nil, err
		}
		c.shards[i].entries = entries
	}
	return c, nil
}

// locate returns the shard of a key and its generation counter there.
func (c *Cache[V]) locate(k Key) (s *shard[V], generation *uint64) {
	h := maphash.Comparable(c.seed, k)
	s = &c.shards[h%shardCount]
	return s, &s.generations[h/shardCount%generationCount]
}

// Get returns what is known of a user and whether anything is. The mark is for
// Put, and must be taken before the read whose result Put gets.
func (c *Cache[V]) Get(k Key) (v V, mark Mark, ok bool) {
	now := c.now()
	s, generation := c.locate(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	mark = Mark{generation: *generation, at: now}
	e, ok := s.entries.Get(k)
	if ok && now.Sub(e.read) > c.maxAge {
		s.entries.Remove(k)
		e, ok = entry[V]{}, false
	}
	return e.value, mark, ok
}

// Put keeps a value that was read after mark was taken, unless its user was
// forgotten since. It reports whether it was kept.
func (c *Cache[V]) Put(k Key, mark Mark, v V) bool {
	s, generation := c.locate(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if *generation != mark.generation {
		return false
	}
	s.entries.Add(k, entry[V]{value: v, read: mark.at})
	return true
}

// Update is Put for a value that is read in parts: change gets what is known of
// the user, or the zero value, and returns what to keep. The age of the whole
// is that of its oldest part. change must not call the cache.
func (c *Cache[V]) Update(k Key, mark Mark, change func(known V) V) bool {
	s, generation := c.locate(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if *generation != mark.generation {
		return false
	}
	e := entry[V]{read: mark.at}
	if old, ok := s.entries.Peek(k); ok && mark.at.Sub(old.read) <= c.maxAge {
		e.value = old.value
		if old.read.Before(e.read) {
			e.read = old.read
		}
	}
	e.value = change(e.value)
	s.entries.Add(k, e)
	return true
}

// Forget drops what is known of a user, and what is being read of the user now.
func (c *Cache[V]) Forget(k Key) {
	s, generation := c.locate(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	*generation++
	s.entries.Remove(k)
}

// ForgetAll drops everything, and what is being read now: for a lost or
// unreadable event.
func (c *Cache[V]) ForgetAll() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for j := range s.generations {
			s.generations[j]++
		}
		s.entries.Purge()
		s.mu.Unlock()
	}
}

// Len returns how many users are held.
func (c *Cache[V]) Len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += s.entries.Len()
		s.mu.Unlock()
	}
	return n
}
