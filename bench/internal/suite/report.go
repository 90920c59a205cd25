package suite

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"text/template"
	"time"

	"github.com/chappe-im/chappe/bench/internal/measure"
	"github.com/chappe-im/chappe/bench/internal/stats"
)

// Environment is what the figures were taken on.
type Environment struct {
	Date    string `json:"date"`
	Commit  string `json:"commit"`
	Command string `json:"command"`
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	Memory  string `json:"memory"`
	Kernel  string `json:"kernel"`
	Go      string `json:"go"`
}

// Here describes this machine and the commit in the working directory.
func Here(command string) Environment {
	e := Environment{
		Date: time.Now().UTC().Format("2006-01-02 15:04 UTC"), Command: command, Commit: commit(),
		Cores: runtime.NumCPU(), Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		CPU: field("/proc/cpuinfo", "model name"), Memory: field("/proc/meminfo", "MemTotal"), Kernel: "unknown",
	}
	if raw, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		e.Kernel = "Linux " + strings.TrimSpace(string(raw))
	}
	return e
}

// field reads the first "name: value" line of a file.
func field(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return "unknown"
	}
	defer func() { _ = f.Close() }()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if k, v, ok := strings.Cut(sc.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func commit() string {
	out, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	c := strings.TrimSpace(string(out))
	if out, err = exec.Command("git", "status", "--porcelain", "--untracked-files=no").Output(); err == nil && len(bytes.TrimSpace(out)) > 0 {
		c += " with changes"
	}
	return c
}

// row of the table of figures: medians over the rounds.
type row struct {
	Name                        string
	Unit                        string
	Rate, CPU, AtAnswer, Client float64
	P50, P99, P999              float64
	Last50, Last99              float64
	Peak                        float64
}

func rowOf(name string, rs []*measure.Result) row {
	r := row{Name: name}
	m := func(of func(*measure.Result) float64) float64 { return median(rs, of) }
	latency := func(l func(*measure.Result) *measure.Latency, of func(*measure.Latency) float64) float64 {
		return m(func(r *measure.Result) float64 {
			if x := l(r); x != nil {
				return of(x)
			}
			return 0
		})
	}
	answer := func(r *measure.Result) *measure.Latency { return r.Latency }
	lastOne := func(r *measure.Result) *measure.Latency { return r.LastDelivery }
	r.Unit = rs[0].Unit
	r.Rate, r.CPU = m(rate), m(cpu)
	r.AtAnswer = m(func(r *measure.Result) float64 { return r.ServerCPUAtAnswer })
	r.Client = m(func(r *measure.Result) float64 { return r.ClientCPU })
	r.Peak = m(func(r *measure.Result) float64 { return r.ServerPeakMiB })
	r.P50 = latency(answer, func(l *measure.Latency) float64 { return l.P50 })
	r.P99 = latency(answer, func(l *measure.Latency) float64 { return l.P99 })
	r.P999 = latency(answer, func(l *measure.Latency) float64 { return l.P999 })
	r.Last50 = latency(lastOne, func(l *measure.Latency) float64 { return l.P50 })
	r.Last99 = latency(lastOne, func(l *measure.Latency) float64 { return l.P99 })
	return r
}

const page = `# Measured speed and memory

Written by ` + "`chappe-bench suite`" + `; ` + "`make bench`" + ` writes it anew. The machine is shared and its clock speed is not
fixed, so the comparisons are ratios of measurements that took turns in one run, and processor time
counts for more than rates.

| | |
|---|---|
| date | {{.Env.Date}} |
| commit | {{.Env.Commit}} |
| command | ` + "`{{.Env.Command}}`" + ` |
| processor | {{.Env.CPU}}, {{.Env.Cores}} cores, shared by server and load tool |
| memory | {{.Env.Memory}} |
| system | {{.Env.Kernel}}, {{.Env.Go}} |
| rounds | {{.Config.Rounds}} of {{.Config.Duration}}, {{.Config.Connections}} keep-alive connections, texts of {{.Config.TextBytes}} bytes |

## Targets

| what | measured | target | |
|---|---|---|---|
{{range .Verdicts -}}
| {{.What}} | {{printf "%.2f" .Value}} {{.Unit}} | {{if .AtLeast}}at least{{else}}at most{{end}} {{.Bound}} {{.Unit}} | {{if .Met}}met{{else}}**missed**{{end}} |
{{end}}
Ratios are taken round by round; the median over the rounds is shown. The server runs with its
default settings{{if .Config.ServerArgs}} but for ` + "`{{join .Config.ServerArgs}}`" + `{{end}}: durability ` + "`process`" + `, SQLite, embedded etcd and NATS.

## Figures

Medians over the rounds. Server CPU is user and system time of the server's process as the kernel
accounts it, divided by operations, and includes what the server does after its answers until it is
at rest: sequencing, archive, pushes. In brackets the part used until the last answer.

| measurement | rate /s | server CPU µs | answer p50 / p99 / p999 ms | last delivery p50 / p99 ms | client CPU µs | server peak MiB |
|---|---|---|---|---|---|---|
{{range .Rows -}}
| {{.Name}} | {{printf "%.0f" .Rate}} | {{printf "%.1f" .CPU}} ({{printf "%.1f" .AtAnswer}}) | {{if .P50}}{{printf "%.2f / %.2f / %.2f" .P50 .P99 .P999}}{{end}} | {{if .Last50}}{{printf "%.2f / %.2f" .Last50 .Last99}}{{end}} | {{printf "%.1f" .Client}} | {{printf "%.0f" .Peak}} |
{{end}}
{{if .Fig.Fanout}}- A delivery to a connected user took {{printf "%.2f" .FramesPer}} frames from the server on average
  (one alone: {{len .Fig.FrameBytes}} frames of {{.Fig.FrameBytes}} bytes); the bare loop writes those same
  frames, each with one write, to as many WebSocket connections of the same clients.
- CPU of a delivery against a bare loop that also waits for and reads the client's answers between
  the frames, for information: {{printf "%.2f" .ExchangeRatio}} ×.
{{end}}{{if or .Checked .Faults}}- Every measurement of sends and deliveries checks that all that was accepted arrived once and in
  order in its conversation: {{if .Faults}}**failed**{{range .Faults}}
  - {{.}}{{end}}{{else}}{{.Checked}} messages, none lost, doubled or out of order.{{end}}
{{end}}{{if .Fig.User}}- Server CPU of a read, of that of the echo: a user {{printf "%.2f" .ReadCPU.user}} ×, attributes {{printf "%.2f" .ReadCPU.attributes}} ×, status {{printf "%.2f" .ReadCPU.status}} ×.
{{end}}{{if .Fig.Presence}}- The answer time of presence notices is that from the first byte of the call that changes the presence to a
  subscriber's connection; "last" is the last of all subscribers.
{{end}}{{with .Fig.Idle}}- {{.Ops}} idle connections: {{printf "%.0f" .PerSecond}} logins/s, resident memory from {{printf "%.0f" (index .Extra "base_mib")}} to {{printf "%.0f" (index .Extra "with_all_mib")}} MiB, {{printf "%.1f" (index .Extra "kib_per_connection")}} KiB
  each; {{printf "%.1f" (index .Extra "kib_per_connection_collected")}} KiB each when both are read after a garbage collection.
{{end}}{{if .Fig.ReadySeconds}}- Start: ready after {{printf "%.2f" .Fig.FirstReadySeconds}} s on an empty directory, {{printf "%.2f" .Ready}} s on a used one; {{printf "%.0f" .Fig.IdleMiB}} MiB
  resident when at rest.
{{end}}
## How to read the baselines

- **echo**: net/http and encoding/json, a request decoded into a struct and encoded again.
- **echo with publish**: the same with one publish into an embedded JetStream file stream,
  acknowledged before the answer.
- **bare loop**: a server that does nothing but write given frames to WebSocket connections.

Each runs in a process of its own. The client is the same lean one for all.
`

// rows are the measurements that took place.
func (f *Figures) rows(cfg Config) []row {
	var rows []row
	for _, m := range []struct {
		name    string
		results []*measure.Result
	}{
		{"echo", f.Echo},
		{"echo with publish", f.Publish},
		{"REST send, recipients offline", f.Send},
		{"REST send, recipients connected", f.Online},
		{"echo, in turns with the reads", f.ReadEcho},
		{"REST read of a user", f.User},
		{"REST read of a user's attributes", f.Attributes},
		{"REST read of a user's status", f.Status},
		{"token by password, warm, on one core", f.Token},
		{"delivery by the bare loop", f.Frames},
		{"delivery by the bare loop that reads answers", f.Exchange},
		{fmt.Sprintf("delivery, %d calls of %d at once", cfg.Receivers/max(cfg.Targets, 1), cfg.Targets), f.Fanout},
		{fmt.Sprintf("delivery, one call of %d at a time", cfg.Targets), f.Single},
		{fmt.Sprintf("presence notice, %d subscribers", cfg.Subscribers), f.Presence},
	} {
		if len(m.results) > 0 {
			rows = append(rows, rowOf(m.name, m.results))
		}
	}
	return rows
}

// WriteMarkdown writes the figures for people.
func (f *Figures) WriteMarkdown(w io.Writer, cfg Config, env Environment) error {
	t, err := template.New("page").Funcs(template.FuncMap{"join": func(s []string) string { return strings.Join(s, " ") }}).Parse(page)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	var checked int64
	for _, rs := range [][]*measure.Result{f.Send, f.Online, f.Fanout, f.Single} {
		for _, r := range rs {
			if r.Check != nil {
				checked += r.Check.Arrived
			}
		}
	}
	return t.Execute(w, map[string]any{
		"Env": env, "Config": cfg, "Fig": f, "Verdicts": f.Verdicts(), "Faults": f.Faults(), "Checked": checked,
		"Rows":          f.rows(cfg),
		"FramesPer":     median(f.Fanout, func(r *measure.Result) float64 { return r.Extra["frames_per_delivery"] }),
		"ExchangeRatio": ratios(f.Fanout, f.Exchange, cpu),
		"ReadCPU": map[string]float64{
			"user": ratios(f.User, f.ReadEcho, cpu), "attributes": ratios(f.Attributes, f.ReadEcho, cpu), "status": ratios(f.Status, f.ReadEcho, cpu),
		},
		"Ready": stats.Median(f.ReadySeconds),
	})
}
