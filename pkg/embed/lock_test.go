package embed_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/embed"
)

func TestADirectoryHasOneServer(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(dir string) (stop func(), err error){
		"etcd": func(dir string) (func(), error) {
			e, err := embed.StartEtcd(t.Context(), embed.EtcdConfig{Dir: dir})
			if err != nil {
				return nil, err
			}
			return e.Stop, nil
		},
		"NATS": func(dir string) (func(), error) {
			n, err := embed.StartNATS(embed.NATSConfig{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				return nil, err
			}
			return n.Stop, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			stop, err := start(dir)
			require.NoError(t, err)
			_, err = start(dir)
			require.ErrorContains(t, err, "is in use by another process")
			stop()
			stop, err = start(dir)
			require.NoError(t, err, "a server that has stopped leaves the directory free")
			stop()
		})
	}
}
