package docs

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the generated sections of the documentation")

const root = "../.."

func render(section string) (string, error) {
	switch section {
	case "flags":
		return flags()
	case "metrics":
		return metrics(root)
	case "compatibility":
		return compatibility()
	case "other calls":
		return otherCalls(root)
	case "quotas":
		return quotas()
	case "sizes":
		return sizes()
	case "client rates":
		return clientRates()
	case "faults":
		return faultTable(root)
	default:
		return "", fmt.Errorf("nothing generates it")
	}
}

// TestGeneratedSections compares every page with what the code says now.
func TestGeneratedSections(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	for _, path := range pages {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			page, err := os.ReadFile(path)
			require.NoError(t, err)
			want, err := Fill(string(page), render)
			require.NoError(t, err)
			if *update {
				require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
				return
			}
			require.Equal(t, want, string(page), "run make docs")
		})
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	fill := func(page string) (string, error) {
		return Fill(page, func(s string) (string, error) {
			if s == "a" {
				return "new\n", nil
			}
			return "", os.ErrNotExist
		})
	}
	got, err := fill("x\n<!-- generated: a -->\nold\n<!-- end -->\ny\n")
	require.NoError(t, err)
	require.Equal(t, "x\n<!-- generated: a -->\n\nnew\n\n<!-- end -->\ny\n", got)
	again, err := fill(got)
	require.NoError(t, err)
	require.Equal(t, got, again)
	for name, page := range map[string]string{
		"no end":  "<!-- generated: a -->\n",
		"nested":  "<!-- generated: a -->\n<!-- generated: a -->\n<!-- end -->\n",
		"stray":   "<!-- end -->\n",
		"unknown": "<!-- generated: b -->\n<!-- end -->\n",
	} {
		_, err := fill(page)
		require.Error(t, err, name)
	}
}
