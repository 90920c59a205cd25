package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/tier"
)

// errMisplaced marks a record that stands under another app's key.
var errMisplaced = errors.New("the record stands under another app's key")

// Seed writes the compiled-in tiers that were never written before. It leaves
// alone what an operator has edited or deleted since.
func Seed(ctx context.Context, etcd *etcdx.Client) error {
	docs, err := tier.Seeds()
	if err != nil {
		return err
	}
	for _, d := range docs {
		mark, key := seedsPrefix+d.Name, TierKey(d.Name)
		if kv, err := etcd.Get(ctx, mark); err != nil {
			return fmt.Errorf("seed tier %s: %w", d.Name, err)
		} else if kv != nil {
			continue
		}
		_, _, err := etcd.Commit(ctx,
			[]etcdx.Condition{{Key: key}, {Key: mark}},
			[]etcdx.Write{{Key: key, Value: d.JSON()}, {Key: mark, Value: []byte("written")}})
		if err != nil {
			return fmt.Errorf("seed tier %s: %w", d.Name, err)
		}
	}
	return nil
}

func compiledSeeds() ([]*tier.Compiled, error) {
	docs, err := tier.Seeds()
	if err != nil {
		return nil, err
	}
	out := make([]*tier.Compiled, len(docs))
	for i, d := range docs {
		if out[i], err = tier.Compile(d); err != nil {
			return nil, err
		}
	}
	return out, nil
}
