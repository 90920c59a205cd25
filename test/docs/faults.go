package docs

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/chappe-im/chappe/test/faults"
)

// faultTable is what the last fault test measured.
func faultTable(root string) (string, error) {
	all, err := faults.Results(filepath.Join(root, "test", "faults", "results.json"))
	if err != nil {
		return "", err
	}
	rows := make([][]string, 0, len(all))
	for _, r := range all {
		what := r.What + " (" + code(r.Name) + ")"
		if r.Note != "" {
			what += "; " + r.Note
		}
		if len(r.Broken) > 0 {
			what += "; **not kept: " + strings.Join(r.Broken, "; ") + "**"
		}
		sends, shown, showing := "–", "–", "–"
		if r.SlowestShow > 0 {
			showing = seconds(r.SlowestShow)
		}
		if r.Faults > 0 {
			sends, shown = seconds(r.SendsAgain), seconds(r.ShownAgain)
		}
		rows = append(rows, []string{
			what, strconv.Itoa(r.Acked), strconv.Itoa(r.Refused),
			strconv.Itoa(r.Lost + r.Unarchived), strconv.Itoa(r.Twice + r.Doubled), strconv.Itoa(r.Late), strconv.Itoa(r.Repeats),
			seconds(r.LongestGap), seconds(r.SlowestCall), showing, sends, shown, r.Ready,
		})
	}
	return table([]string{
		"fault", "acknowledged", "refused", "lost", "twice", "late", "repeats",
		"longest gap", "slowest answer", "slowest showing", "sends go on", "shown again", "ready state",
	}, rows), nil
}

// seconds writes milliseconds as seconds.
func seconds(ms int64) string {
	if ms < 0 {
		return "never"
	}
	return fmt.Sprintf("%.2f s", float64(ms)/1000)
}
