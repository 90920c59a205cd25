package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/services/run"
	"github.com/chappe-im/chappe/test/harness"
)

// write sends n texts, all of which have to be acknowledged.
func (w *writer) write(t *testing.T, app *harness.App, n int) {
	t.Helper()
	for range n {
		body := fmt.Sprintf("%s-%d", w.name, len(w.acked))
		r := app.Call(t, http.MethodPost, "/messages/users", map[string]any{
			"from": w.name, "to": []string{killRecipient}, "type": "txt", "body": map[string]string{"msg": body},
		}, app.Token)
		require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
		w.acked = append(w.acked, body)
		w.ids = append(w.ids, r.Body["data"].(map[string]any)[killRecipient].(string))
	}
}

// TestLogOlderThanTheArchive kills a server and gives it an older copy of its
// log, as a power cut or a backup does, then none at all: what is acknowledged
// from then on is kept and numbered on, and operators are told.
func TestLogOlderThanTheArchive(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	nats, older := filepath.Join(data, "nats"), filepath.Join(t.TempDir(), "nats")
	p := harness.StartProcess(t, data)
	app := p.NewApp(t, "enterprise", harness.NoLimits)
	app.Register(t, killRecipient)
	w := &writer{name: "writer"}
	w.write(t, app, 50)
	checkArchive(t, app, w)
	require.NoError(t, os.CopyFS(older, os.DirFS(nats)))
	w.write(t, app, 150)
	checkArchive(t, app, w)
	for i, fault := range []func(){
		func() { require.NoError(t, os.CopyFS(nats, os.DirFS(older))) },
		func() {},
	} {
		p.Kill(t)
		require.NoError(t, os.RemoveAll(nats))
		fault()
		p = harness.StartProcess(t, data)
		app = app.On(p.Server)
		w.write(t, app, 100)
		checkArchive(t, app, w)
		require.EqualValues(t, i+1, p.Metric(t, "chappe_messaging_log_epoch"))
		status, ready := readyz(t, p.Server)
		require.Equal(t, http.StatusOK, status)
		require.True(t, ready.Ready)
		require.Contains(t, ready.Log.Epochs, int64(i+1))
	}
	checkFreshClient(t, app, []*writer{w})
}

type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
	Log     struct {
		Epochs []int64 `json:"epochs"`
		Lost   int64   `json:"lost"`
	} `json:"log"`
}

func readyz(t *testing.T, s *harness.Server) (status int, r readiness) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Ops+"/readyz", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&r))
	return resp.StatusCode, r
}

// TestPartsOfTwoBackups puts one part back as it was at an earlier start.
func TestPartsOfTwoBackups(t *testing.T) {
	t.Parallel()
	same := func(*run.Config) {}
	accept := func(c *run.Config) { c.AcceptInstallation = true }
	for name, c := range map[string]struct {
		part string
		says string
	}{
		"an older etcd":     {"etcd", "etcd is from an older backup"},
		"older accounts":    {"sql/account.db", "database of account is from an older backup"},
		"older messages":    {"sql/messaging.db", "database of messaging is from an older backup"},
		"older presence":    {"sql/presence.db", "database of presence is from an older backup"},
		"all of one moment": {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
			require.NoError(t, harness.Refused(t, data, same), "a first start")
			require.NoError(t, os.CopyFS(backup, os.DirFS(data)))
			require.NoError(t, harness.Refused(t, data, same), "a further one")
			require.NoError(t, os.RemoveAll(filepath.Join(data, c.part)))
			if info, err := os.Stat(filepath.Join(backup, c.part)); err == nil && info.IsDir() {
				require.NoError(t, os.CopyFS(filepath.Join(data, c.part), os.DirFS(filepath.Join(backup, c.part))))
			} else {
				raw, err := os.ReadFile(filepath.Join(backup, c.part))
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(filepath.Join(data, c.part), raw, 0o600))
			}
			if c.says != "" {
				require.ErrorContains(t, harness.Refused(t, data, same), c.says)
				require.ErrorContains(t, harness.Refused(t, data, same), "--accept-installation", "it stays refused")
				require.NoError(t, harness.Refused(t, data, accept))
			}
			require.NoError(t, harness.Refused(t, data, same))
			require.NoError(t, harness.Refused(t, data, same))
		})
	}
}

// TestPartsOfTwoInstallations puts parts of one installation's data into
// another's.
func TestPartsOfTwoInstallations(t *testing.T) {
	t.Parallel()
	same := func(*run.Config) {}
	accept := func(c *run.Config) { c.AcceptInstallation = true }
	made := func() string {
		data := t.TempDir()
		require.NoError(t, harness.Refused(t, data, same), "a first start")
		require.NoError(t, harness.Refused(t, data, same), "and the next")
		return data
	}
	for name, c := range map[string]struct {
		part    string
		foreign bool
		says    []string
	}{
		"another's log":         {"nats", true, []string{"NATS carries", "etcd carries", "--accept-installation"}},
		"another's etcd":        {"etcd", true, []string{"etcd carries", "database of account carries"}},
		"another's messages":    {"sql/messaging.db", true, []string{"database of messaging carries"}},
		"another's accounts":    {"sql/account.db", true, []string{"database of account carries"}},
		"an etcd that is empty": {"etcd", false, []string{"etcd carries no installation"}},
		"a log that is empty":   {"nats", false, nil},
		"messages are empty":    {"sql/messaging.db", false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := made()
			part := filepath.Join(data, c.part)
			require.NoError(t, os.RemoveAll(part))
			if c.foreign {
				other := made()
				from := filepath.Join(other, c.part)
				if c.part == "etcd" { // whose keys are sealed
					raw, err := os.ReadFile(filepath.Join(other, "seal-key"))
					require.NoError(t, err)
					require.NoError(t, os.WriteFile(filepath.Join(data, "seal-key"), raw, 0o600))
				}
				if info, err := os.Stat(from); err == nil && info.IsDir() {
					require.NoError(t, os.CopyFS(part, os.DirFS(from)))
				} else {
					raw, err := os.ReadFile(from)
					require.NoError(t, err)
					require.NoError(t, os.WriteFile(part, raw, 0o600))
				}
			}
			err := harness.Refused(t, data, same)
			if c.says == nil {
				require.NoError(t, err)
				return
			}
			for _, text := range c.says {
				require.ErrorContains(t, err, text)
			}
			require.Error(t, harness.Refused(t, data, same), "it stays refused")
			require.NoError(t, harness.Refused(t, data, accept))
			require.NoError(t, harness.Refused(t, data, same), "accepted once is accepted")
		})
	}
}
