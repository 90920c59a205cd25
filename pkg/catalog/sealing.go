package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/seal"
)

const (
	// sealKey holds a sealed word by which a process finds out at its start
	// whether it has the right key.
	sealKey   = "/seal"
	sealPlace = "seal check"
	sealWord  = "chappe"
	// sealAttempts bounds how often a write is tried anew when another came in
	// between.
	sealAttempts = 20
)

// keyPlace is what a sealed signing key is bound to.
func keyPlace(org, app string, id uint32) string {
	return "app/" + org + "/" + app + "/key/" + strconv.FormatUint(uint64(id), 10)
}

// seal returns the record with its signing keys sealed.
func (r *Record) seal(keys *seal.Keys) *Record {
	sealed := *r
	sealed.Keys = make([]RecordKey, len(r.Keys))
	for i, k := range r.Keys {
		sealed.Keys[i] = RecordKey{ID: k.ID, Sealed: keys.Seal(keyPlace(r.Org, r.App, k.ID), k.Secret)}
	}
	return &sealed
}

// open makes the signing keys of a stored record readable. Keys that were stored
// before there was a seal are so already.
func (r *Record) open(keys *seal.Keys) error {
	for i, k := range r.Keys {
		if len(k.Sealed) == 0 {
			continue
		}
		secret, err := keys.Open(keyPlace(r.Org, r.App, k.ID), k.Sealed)
		if err != nil {
			return fmt.Errorf("signing key %d: %w", k.ID, err)
		}
		r.Keys[i] = RecordKey{ID: k.ID, Secret: secret}
	}
	return nil
}

// Sealed reports whether etcd holds anything that was sealed, so that a new key
// would not open it.
func Sealed(ctx context.Context, etcd *etcdx.Client) (bool, error) {
	kv, err := etcd.Get(ctx, sealKey)
	if err != nil || kv != nil {
		return kv != nil, err
	}
	apps, _, err := etcd.List(ctx, AppsPrefix)
	if err != nil {
		return false, err
	}
	for _, a := range apps {
		var r Record
		if json.Unmarshal(a.Value, &r) != nil {
			continue // the watch reports it
		}
		for _, k := range r.Keys {
			if len(k.Sealed) > 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

// CheckSeal returns an error if what etcd holds was sealed with a key that is
// not among keys.
func CheckSeal(ctx context.Context, etcd *etcdx.Client, keys *seal.Keys) error {
	kv, err := etcd.Get(ctx, sealKey)
	if err != nil {
		return fmt.Errorf("check the seal key: %w", err)
	}
	if kv != nil {
		return checkWord(kv.Value, keys)
	}
	apps, _, err := etcd.List(ctx, AppsPrefix)
	if err != nil {
		return fmt.Errorf("check the seal key: %w", err)
	}
	for _, a := range apps {
		if _, err := DecodeRecord(a.Value, keys); errors.Is(err, seal.ErrUnknownKey) {
			return wrongKey(keys, err)
		}
	}
	return nil
}

func checkWord(stored []byte, keys *seal.Keys) error {
	word, err := keys.Open(sealPlace, stored)
	if err == nil && string(word) != sealWord {
		err = seal.ErrDamaged
	}
	if err != nil {
		return wrongKey(keys, err)
	}
	return nil
}

func wrongKey(keys *seal.Keys, err error) error {
	return fmt.Errorf("the seal key file does not open the apps' signing keys in etcd: its first key is %s, but etcd says: %w; "+
		"put back the seal key file that belongs to this etcd (nothing was changed)", keys.ID(), err)
}

// SealAll seals, with the first of the keys, every signing key in etcd that is
// not sealed yet or was with another one of them, and returns how many apps it
// has changed. A record that cannot be read stays as it is.
func SealAll(ctx context.Context, etcd *etcdx.Client, keys *seal.Keys) (int, error) {
	// The word comes first: of two processes that start on an empty etcd with
	// keys of their own, one has to find out here.
	word := keys.Seal(sealPlace, []byte(sealWord))
	if _, _, err := etcd.Commit(ctx, []etcdx.Condition{{Key: sealKey}}, []etcdx.Write{{Key: sealKey, Value: word}}); err != nil {
		return 0, fmt.Errorf("seal keys: %w", err)
	}
	if err := CheckSeal(ctx, etcd, keys); err != nil {
		return 0, err
	}
	apps, _, err := etcd.List(ctx, AppsPrefix)
	if err != nil {
		return 0, fmt.Errorf("seal keys: %w", err)
	}
	changed := 0
	for i := range apps {
		did, err := sealApp(ctx, etcd, keys, &apps[i])
		if err != nil {
			return changed, fmt.Errorf("seal the keys of %s: %w", apps[i].Key, err)
		}
		if did {
			changed++
		}
	}
	// What is checked at the start has to go with the newest key too, so that
	// older ones can be taken out of the file.
	kv, err := etcd.Get(ctx, sealKey)
	if err == nil && kv != nil && !keys.Current(kv.Value) {
		_, _, err = etcd.Commit(ctx, []etcdx.Condition{{Key: sealKey, Revision: kv.Revision}}, []etcdx.Write{{Key: sealKey, Value: word}})
	}
	if err != nil {
		return changed, fmt.Errorf("seal keys: %w", err)
	}
	return changed, nil
}

func sealApp(ctx context.Context, etcd *etcdx.Client, keys *seal.Keys, kv *etcdx.KV) (bool, error) {
	for range sealAttempts {
		if kv == nil || !stale(kv.Value, keys) {
			return false, nil
		}
		r, err := DecodeRecord(kv.Value, keys)
		if err != nil {
			return false, nil //nolint:nilerr // the watch reports it, and what cannot be read is not overwritten
		}
		value, err := r.Encode(keys)
		if err != nil {
			return false, err
		}
		ok, _, err := etcd.Commit(ctx, []etcdx.Condition{{Key: kv.Key, Revision: kv.Revision}}, []etcdx.Write{{Key: kv.Key, Value: value}})
		if err != nil || ok {
			return ok, err
		}
		if kv, err = etcd.Get(ctx, kv.Key); err != nil {
			return false, err
		}
	}
	return false, errors.New("too many changes at once")
}

// stale reports whether a stored record has a key that is not sealed with the
// key that seals now.
func stale(value []byte, keys *seal.Keys) bool {
	var r Record
	if json.Unmarshal(value, &r) != nil {
		return false
	}
	for _, k := range r.Keys {
		if !keys.Current(k.Sealed) {
			return true
		}
	}
	return false
}
