package installation

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/chappe-im/chappe/pkg/etcdx"
)

// An ID does not tell an older backup from the present. So etcd and each SQL
// schema also count the schema's starts, and both numbers must agree: an etcd
// behind the schema, or a schema behind etcd, was put back from another moment.
// The log needs no such count: messaging compares it with its archive.

// startsPrefix is where etcd holds the counts, by the part's name.
const startsPrefix = etcdKey + "/starts/"

// starts is a count as etcd holds it. While a process is between its write to
// etcd and that to the part, the part may be anywhere from From to Starts.
type starts struct {
	Starts int64 `json:"starts"`
	From   int64 `json:"from"`
}

// countTries bounds how often a count is tried when processes start at once.
const countTries = 50

// countStart counts a start in etcd and in the part, and refuses a part whose
// count is not etcd's unless accept says to go on with it.
func countStart(ctx context.Context, c *etcdx.Client, p Part, accept bool, logger *slog.Logger) error {
	for range countTries {
		has, err := p.Starts(ctx)
		if err != nil {
			return err
		}
		at, known, err := readStarts(ctx, c, p.Name)
		if err != nil {
			return err
		}
		// A part without a count is new, or older than counts.
		if agree := has == 0 || known.From <= has && has <= known.Starts; !agree {
			if !accept {
				return disagreement(p.Name, has, known.Starts)
			}
			logger.Warn("a part from another moment is accepted", "part", p.Name, "starts", has, "starts_in_etcd", known.Starts)
			known.From = min(known.From, has)
		}
		next := starts{Starts: max(known.Starts, has) + 1, From: known.From}
		if has == 0 {
			next.From = 0
		}
		at, ok, err := writeStarts(ctx, c, p.Name, at, next)
		if err != nil {
			return err
		}
		if !ok {
			continue // another process starts at the same moment
		}
		if err := p.SetStarts(ctx, next.Starts); err != nil {
			return err
		}
		// If another process has counted on, it closes the range.
		_, _, err = writeStarts(ctx, c, p.Name, at, starts{Starts: next.Starts, From: next.Starts})
		return err
	}
	return fmt.Errorf("%s: too many processes start at once; start again", p.Name)
}

func disagreement(part string, has, etcd int64) error {
	older := part
	if etcd < has {
		older = "etcd"
	}
	return fmt.Errorf("etcd counts %d starts of %s, which itself counts %d: %s is from an older backup than the rest. "+
		"Put parts of one moment back, or start once with --accept-installation to go on with these", etcd, part, has, older)
}

func readStarts(ctx context.Context, c *etcdx.Client, name string) (revision int64, s starts, err error) {
	kv, err := c.Get(ctx, startsPrefix+name)
	if err != nil || kv == nil {
		return 0, s, err
	}
	if err := json.Unmarshal(kv.Value, &s); err != nil {
		return 0, s, fmt.Errorf("etcd's count of starts of %s: %w", name, err)
	}
	return kv.Revision, s, nil
}

func writeStarts(ctx context.Context, c *etcdx.Client, name string, at int64, s starts) (revision int64, ok bool, err error) {
	value, err := json.Marshal(s)
	if err != nil {
		return 0, false, err
	}
	key := startsPrefix + name
	ok, revision, err = c.Commit(ctx, []etcdx.Condition{{Key: key, Revision: at}}, []etcdx.Write{{Key: key, Value: value}})
	return revision, ok, err
}
