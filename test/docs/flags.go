package docs

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/chappe-im/chappe/services/run"
)

// flags lists the settings of chappe serve.
func flags() (string, error) {
	var cfg run.Config
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	cfg.Flags(fs)
	var rows [][]string
	fs.VisitAll(func(f *pflag.Flag) {
		value := f.DefValue
		if value == "" || value == "[]" {
			value = "–"
		} else {
			value = code(strings.Trim(value, "[]"))
		}
		rows = append(rows, []string{code("--" + f.Name), code(run.EnvName(f.Name)), value, f.Usage})
	})
	return table([]string{"flag", "environment", "default", "meaning"}, rows), nil
}
