package messaging

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

// claimNode takes a node number for the ID generator; it is free again when
// the session ends.
func claimNode(ctx context.Context, session *etcdx.Session) (int, error) {
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
func (s *Service) keepNode(ctx context.Context, session *etcdx.Session) error {
	ok, err := session.Create(ctx, nodeKey(s.node), nil)
	if err != nil || ok {
		return err
	}
	n, err := claimNode(ctx, session)
	if err != nil {
		return err
	}
	s.node = n
	s.ids.SetNode(n)
	return nil
}

const partitionsKey = "/messaging/partitions"

// fixPartitions writes down the number of partitions when a cluster first
// starts and refuses another number later: it decides where each conversation
// lives.
func (s *Service) fixPartitions(ctx context.Context) error {
	want := []byte(strconv.Itoa(s.cfg.Partitions))
	if _, _, err := s.deps.Etcd.Commit(ctx, []etcdx.Condition{{Key: partitionsKey}}, []etcdx.Write{{Key: partitionsKey, Value: want}}); err != nil {
		return err
	}
	kv, err := s.deps.Etcd.Get(ctx, partitionsKey)
	if err != nil {
		return err
	}
	if kv != nil && !bytes.Equal(kv.Value, want) {
		return fmt.Errorf("messaging partitions: this cluster was set up with %s, not %s", kv.Value, want)
	}
	return nil
}
