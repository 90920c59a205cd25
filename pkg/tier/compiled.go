package tier

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/chappe-im/chappe/pkg/rate"
)

// Compiled is a tier in the form that hot paths look things up in. It never
// changes.
type Compiled struct {
	Name string

	doc        *Document
	rules      map[string]*Rule
	fallback   *Rule
	quotas     map[string]int64
	sizes      map[string]int64
	patterns   map[string]*regexp.Regexp
	downstream CompiledDownstream
}

// Rule is the rate of a call with everything precomputed.
type Rule struct {
	// ID is empty for the default rule, which counts each call that has no
	// rule of its own by itself.
	ID string
	// Bucket is what the call draws on: a shared bucket's name, or the ID.
	Bucket string
	// Hash is BucketHash of Bucket.
	Hash   uint64
	Limits []Limit
	// PerIP says that limits per app are counted per client address as well.
	// It is false also where that could not make a difference: a limit per
	// address that is as large as the app's own is kept by the latter, because
	// the calls from one address are among the app's.
	PerIP bool
	// Backlogged says that the call is refused while the app's backlog is too
	// long.
	Backlogged bool
}

// Limit is one window that a call must pass.
type Limit struct {
	rate.Limit
	// Messages says that the call costs its targets, not 1.
	Messages bool
	// PerUser says that each user has a window of its own.
	PerUser bool
	// IPUnits is what one client address may use of Units.
	IPUnits int64
}

// Cost gives what a call that costs the given messages costs here.
func (l *Limit) Cost(messages int64) int64 {
	if l.Messages {
		return messages
	}
	return 1
}

// CompiledDownstream is the cap on deliveries.
type CompiledDownstream struct {
	// Limited is false if the tier has no cap.
	Limited bool
	// PerSecond is how many deliveries fall due in a second, and also how many
	// may at once after a rest.
	PerSecond  int64
	MaxBacklog time.Duration
	// REST and Client say whose sends count.
	REST, Client bool
}

// BucketHash spreads buckets over shards.
func BucketHash(bucket string) uint64 { return xxhash.Sum64String(bucket) }

// Compile turns a valid document into its fast form.
func Compile(d *Document) (*Compiled, error) {
	c := &Compiled{
		Name:     d.Name,
		doc:      d,
		rules:    make(map[string]*Rule, len(d.Rules)),
		quotas:   make(map[string]int64, len(d.Quotas)),
		sizes:    make(map[string]int64, len(d.Sizes)),
		patterns: make(map[string]*regexp.Regexp, len(d.Patterns)),
	}
	// The rules of a shared bucket share one slice of limits too, which is how
	// the limiter knows that nothing changed between calls of the two.
	shared := make(map[string][]Limit, len(d.SharedBuckets))
	percent := int64(100)
	if p := d.RateCounting.PerIPPercent; p != nil {
		percent = *p
	}
	perIP := d.RateCounting.PerIP && percent < 100
	for name, b := range d.SharedBuckets {
		shared[name] = compileLimits(b.Limits, percent)
	}
	for id, r := range d.Rules {
		rule := &Rule{
			ID:         id,
			Bucket:     id,
			PerIP:      perIP && !slices.Contains(d.RateCounting.PerIPExcept, id),
			Backlogged: d.Downstream.Factor != nil && slices.Contains(d.Downstream.Rules, id),
		}
		if r.Bucket != "" {
			// A bucket may bear the name of a call; the prefix keeps the two
			// apart.
			rule.Bucket, rule.Limits = "shared:"+r.Bucket, shared[r.Bucket]
		} else {
			rule.Limits = compileLimits(r.Limits, percent)
		}
		rule.Hash = BucketHash(rule.Bucket)
		c.rules[id] = rule
	}
	c.fallback = &Rule{PerIP: perIP, Limits: compileLimits([]LimitDocument{d.RateCounting.Default}, percent)}
	for name, v := range d.Quotas {
		c.quotas[name] = orUnlimited(v)
	}
	for name, v := range d.Sizes {
		c.sizes[name] = orUnlimited(v)
	}
	for name, p := range d.Patterns {
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, fmt.Errorf("tier %s, pattern %s: %w", d.Name, name, err)
		}
		c.patterns[name] = re
	}
	c.downstream = CompiledDownstream{
		MaxBacklog: time.Duration(d.Downstream.MaxBacklogSeconds) * time.Second,
		REST:       slices.Contains(d.Downstream.ApplyTo, ApplyREST),
		Client:     slices.Contains(d.Downstream.ApplyTo, ApplyClient),
	}
	if f := d.Downstream.Factor; f != nil {
		c.downstream.Limited = true
		c.downstream.PerSecond = *f * d.Downstream.Base
	}
	return c, nil
}

func compileLimits(docs []LimitDocument, ipPercent int64) []Limit {
	limits := make([]Limit, len(docs))
	for i, d := range docs {
		window := time.Second
		if d.Per == PerMinute {
			window = time.Minute
		}
		limits[i] = Limit{
			Limit:    rate.Limit{Units: d.Count, Window: window.Nanoseconds()},
			Messages: d.Unit == UnitMessage,
			PerUser:  d.Scope == ScopeUser,
			// Rounded up, so that nobody's share of a small limit is nothing.
			IPUnits: (d.Count*ipPercent + 99) / 100,
		}
	}
	return limits
}

func orUnlimited(v *int64) int64 {
	if v == nil {
		return Unlimited
	}
	return *v
}

// MaxWindow is the longest window that a document can ask for.
const MaxWindow = time.Minute

// Rule gives the rule of a call; one that has none gets the default rule,
// which has no ID and no bucket.
func (c *Compiled) Rule(id string) *Rule {
	if r, ok := c.rules[id]; ok {
		return r
	}
	return c.fallback
}

// Rules gives all rules in no order.
func (c *Compiled) Rules() map[string]*Rule { return c.rules }

// Quota gives a quota by its name, Unlimited if it has no bound. An unknown
// name has none left: 0.
func (c *Compiled) Quota(name string) int64 { return c.quotas[name] }

// Size gives a size by its name in bytes or characters, Unlimited if it has no
// bound. An unknown name gives 0.
func (c *Compiled) Size(name string) int64 { return c.sizes[name] }

// Pattern gives a pattern by its name, nil if there is none.
func (c *Compiled) Pattern(name string) *regexp.Regexp { return c.patterns[name] }

// Retention is how long messages stay; 0 is for ever.
func (c *Compiled) Retention() time.Duration {
	if c.doc.RetentionDays == nil {
		return 0
	}
	return time.Duration(*c.doc.RetentionDays) * 24 * time.Hour
}

// Downstream gives the cap on deliveries.
func (c *Compiled) Downstream() CompiledDownstream { return c.downstream }

// Document gives the document; the caller must not change it.
func (c *Compiled) Document() *Document { return c.doc }

// QuotaLimit gives a quota by its name, nil if it has no bound. An unknown
// name has none left.
func (c *Compiled) QuotaLimit(name string) *int64 {
	n, ok := c.quotas[name]
	if ok && n == Unlimited {
		return nil
	}
	return &n
}

// PacesRESTSends reports whether sends over REST draw on the downstream
// budget, PacesClientSends whether those of connected clients do.
func (c *Compiled) PacesRESTSends() bool { return c.downstream.Limited && c.downstream.REST }

// PacesClientSends is PacesRESTSends for sends of connected clients.
func (c *Compiled) PacesClientSends() bool { return c.downstream.Limited && c.downstream.Client }

// CountsMessages reports whether the rule limits messages and not calls.
func (r *Rule) CountsMessages() bool {
	return slices.ContainsFunc(r.Limits, func(l Limit) bool { return l.Messages })
}

// Share gives the rule with every limit divided by n, but at least 1: for n
// deciders that cannot ask each other. A limit of 0 stays 0.
func (r *Rule) Share(n int64) *Rule {
	c := *r
	c.Limits = make([]Limit, len(r.Limits))
	for i, l := range r.Limits {
		if l.Units > 0 {
			l.Units = max(1, l.Units/n)
		}
		if l.IPUnits > 0 {
			l.IPUnits = max(1, l.IPUnits/n)
		}
		c.Limits[i] = l
	}
	return &c
}
