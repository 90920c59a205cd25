package lifecycle_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/lifecycle"
)

func TestOrder(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		fail string
		want []string
		err  error
	}{
		"all start and stop in reverse": {
			want: []string{"+a", "+b", "+c", "-c", "-b", "-b's own", "-a"},
		},
		"a failure stops what ran, its own undo first": {
			fail: "c", want: []string{"+a", "+b", "+c", "-c's own", "-b", "-b's own", "-a"}, err: broken,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log []string
			note := func(s string) func(context.Context) error {
				return func(context.Context) error {
					log = append(log, s)
					return nil
				}
			}
			g := lifecycle.New(slog.New(slog.DiscardHandler))
			for _, part := range []string{"a", "b", "c"} {
				g.Add(lifecycle.Part{
					Name: part,
					Start: func(ctx context.Context) error {
						_ = note("+" + part)(ctx)
						if part == "b" || part == c.fail {
							g.Undo(part+"'s own", note("-"+part+"'s own"))
						}
						if part == c.fail {
							return broken
						}
						return nil
					},
					Stop: note("-" + part),
				})
			}
			err := g.Start(t.Context())
			require.ErrorIs(t, err, c.err)
			require.NoError(t, g.Stop(t.Context()))
			require.NoError(t, g.Stop(t.Context()), "stopping twice does nothing")
			require.Equal(t, c.want, log)
		})
	}
}
