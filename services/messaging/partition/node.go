package partition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/idgen"
)

// claimNode has message IDs made under a number that is this instance's until
// its session ends, and greater than any that is archived.
func (o *Owner) claimNode(ctx context.Context) (err error) {
	if o.node, err = freeNode(ctx, o.session); err != nil {
		return err
	}
	newest, err := o.archive.NewestID(ctx)
	if err != nil {
		return err
	}
	o.log.ids.SetNode(o.node)
	o.log.ids.Advance(newest)
	return nil
}

// freeNode takes a node number that is free; it is free again when the session
// ends.
func freeNode(ctx context.Context, session *etcdx.Session) (int, error) {
	first := rand.N(idgen.MaxNode + 1)
	for i := range idgen.MaxNode + 1 {
		n := (first + i) % (idgen.MaxNode + 1)
		ok, err := session.Create(ctx, nodeKey(n), nil)
		if err != nil {
			return 0, err
		}
		if ok {
			return n, nil
		}
	}
	return 0, errors.New("all node numbers are taken")
}

func nodeKey(n int) string { return "/messaging/nodes/" + strconv.Itoa(n) }

// keepNode claims the node number in a new session: the claim went with the
// one before. If another has taken it, IDs are made under another number.
func (o *Owner) keepNode(ctx context.Context, session *etcdx.Session) error {
	ok, err := session.Create(ctx, nodeKey(o.node), nil)
	if err != nil || ok {
		return err
	}
	n, err := freeNode(ctx, session)
	if err != nil {
		return err
	}
	o.node = n
	o.log.ids.SetNode(n)
	return nil
}

const partitionsKey = "/messaging/partitions"

// FixCount writes down the number of partitions when a cluster first
// starts and refuses another number later: it decides where each conversation
// lives.
func FixCount(ctx context.Context, etcd *etcdx.Client, partitions int) error {
	want := []byte(strconv.Itoa(partitions))
	if _, _, err := etcd.Commit(ctx, []etcdx.Condition{{Key: partitionsKey}}, []etcdx.Write{{Key: partitionsKey, Value: want}}); err != nil {
		return err
	}
	kv, err := etcd.Get(ctx, partitionsKey)
	if err != nil {
		return err
	}
	if kv != nil && !bytes.Equal(kv.Value, want) {
		return fmt.Errorf("messaging partitions: this cluster was set up with %s, not %s", kv.Value, want)
	}
	return nil
}
