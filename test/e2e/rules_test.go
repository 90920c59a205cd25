package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/testkit/fixture"
	"github.com/chappe-im/chappe/services/gateway/routes"
	"github.com/chappe-im/chappe/services/limiter"
	"github.com/chappe-im/chappe/services/run"
	"github.com/chappe-im/chappe/test/harness"
)

// request makes a call that its rule counts. What it does matters little: most
// are repeated a few hundred times.
type request struct{ method, path, body string }

// requests has one for each rule whose endpoint exists.
func requests() map[string]request {
	many := make([]string, 600)
	for i := range many {
		many[i] = fmt.Sprint("nobody-", i)
	}
	targets, _ := json.Marshal(many)
	return map[string]request{
		"register_user":                 {"POST", "/users", `{"username":"amelia"}`},
		"register_users_batch":          {"POST", "/users", `[{"username":"amelia","password":"1"}]`},
		"get_token":                     {"POST", "/token", `{"grant_type":"nonsense"}`},
		"get_user":                      {"GET", "/users/amelia", ""},
		"list_users":                    {"GET", "/users?limit=1", ""},
		"delete_user":                   {"DELETE", "/users/nobody", ""},
		"delete_users_batch":            {"DELETE", "/users?limit=x", ""},
		"change_password":               {"PUT", "/users/nobody/password", `{"newpassword":"x"}`},
		"get_user_online_status":        {"GET", "/users/amelia/status", ""},
		"get_users_online_status_batch": {"POST", "/users/batch/status", `{"usernames":["amelia"]}`},
		"get_offline_message_count":     {"GET", "/users/amelia/offline_msg_count", ""},
		"get_offline_message_status":    {"GET", "/users/amelia/offline_msg_status/1", ""},
		"deactivate_user":               {"POST", "/users/nobody/deactivate", ""},
		"activate_user":                 {"POST", "/users/nobody/activate", ""},
		"disconnect_user":               {"GET", "/users/nobody/disconnect", ""},
		"set_push_nickname":             {"PUT", "/users/nobody", `{"nickname":"n"}`},
		"set_push_display_style":        {"PUT", "/users/nobody", `{"notification_display_style":"1"}`},
		"set_push_do_not_disturb":       {"PUT", "/users/nobody", `{"notification_no_disturbing":true,"notification_no_disturbing_start":"1","notification_no_disturbing_end":"2"}`},
		"send_message":                  {"POST", "/messages", `{"target_type":"users","target":["nobody"],"msg":{"type":"txt","msg":"x"}}`},
		"send_message_users":            {"POST", "/messages/users", `{"to":` + string(targets) + `,"type":"txt","body":{"msg":"x"}}`},
		"set_user_attributes":           {"PUT", "/metadata/user/nobody", `{"a":"b"}`},
		"get_user_attributes":           {"GET", "/metadata/user/amelia", ""},
		"get_users_attributes_batch":    {"POST", "/metadata/user/get", `{"targets":["amelia"],"properties":["a"]}`},
		"get_user_attributes_capacity":  {"GET", "/metadata/user/capacity", ""},
		"delete_user_attributes":        {"DELETE", "/metadata/user/nobody", ""},
		"add_contact":                   {"POST", "/users/amelia/contacts/users/nobody", ""},
		"remove_contact":                {"DELETE", "/users/amelia/contacts/users/nobody", ""},
		"list_contacts":                 {"GET", "/users/amelia/contacts/users", ""},
		"list_user_blocks":              {"GET", "/users/amelia/blocks/users", ""},
		"add_user_blocks":               {"POST", "/users/amelia/blocks/users", `{"usernames":["nobody"]}`},
		"remove_user_block":             {"DELETE", "/users/amelia/blocks/users/nobody", ""},
		"set_global_mute":               {"POST", "/mutes", `{"username":"nobody","chat":1}`},
		"get_global_mute":               {"GET", "/mutes/amelia", ""},
		"list_global_mutes":             {"GET", "/mutes", ""},
		"set_presence":                  {"POST", "/users/amelia/presence/web/1", `{"ext":"x"}`},
		"subscribe_presence":            {"POST", "/users/amelia/presence/100", `{"usernames":["nobody"]}`},
		"get_presence_batch":            {"POST", "/users/amelia/presence", `{"usernames":["amelia"]}`},
		"unsubscribe_presence":          {"DELETE", "/users/amelia/presence", `["nobody"]`},
		"list_presence_subscriptions":   {"GET", "/users/amelia/presence/sublist?pageNum=1&pageSize=10", ""},
	}
}

// TestEveryRuleOverREST offers each call that has an endpoint three times its
// limit of the seeded tier. By the limiter's own record no window sees more;
// what was admitted is what was not answered with 429, or with 403 where
// messages are counted; and no other rule of the app notices.
func TestEveryRuleOverREST(t *testing.T) {
	rec := &record{at: map[string][]int64{}}
	s := harness.Start(t, run.WithLimiterOptions(limiter.WithRecorder(rec.note)))
	seeded := fixture.Tier(t, "enterprise", "")
	all := requests()
	served := map[string]bool{}
	for _, r := range routes.All() {
		for _, id := range r.Rules {
			served[id] = true
		}
	}
	for id := range served {
		require.Contains(t, all, id, "an endpoint without a request here")
	}
	for id, req := range all {
		require.True(t, served[id], "%s has no endpoint", id)
		t.Run(id, func(t *testing.T) {
			app := s.NewApp(t, "enterprise", "")
			app.Register(t, "amelia")
			limit := seeded.Rule(id).Limits[0]
			cost := int64(1)
			if limit.Messages {
				cost = 600
			}
			// The lines above have got tokens.
			before := len(rec.of(app.Key(), id))
			var mu sync.Mutex
			admitted, refused := 0, 0
			offered := make(chan struct{}, 3*limit.Units/cost)
			for range 3 * limit.Units / cost {
				offered <- struct{}{}
			}
			close(offered)
			began := time.Now()
			var done sync.WaitGroup
			for range 16 {
				done.Go(func() {
					for range offered {
						r, err := app.Try(t.Context(), req.method, req.path, body(req.body), app.Token)
						mu.Lock()
						switch {
						case err != nil || r.Status >= 500:
							t.Errorf("%s %s: %d %v %s", req.method, req.path, r.Status, err, r.Raw)
						case !limit.Messages && r.Status == http.StatusTooManyRequests && r.Body["error"] == "reach_limit",
							limit.Messages && r.Status == http.StatusForbidden && r.Body["error_description"] == "message send reach limit":
							if r.Header.Get("Retry-After") == "" {
								t.Errorf("%s %s: no Retry-After", req.method, req.path)
							}
							refused++
						default:
							admitted++
						}
						mu.Unlock()
					}
				})
			}
			done.Wait()
			took := time.Since(began)
			at := rec.of(app.Key(), id)[before:]
			require.LessOrEqual(t, most(rec.of(app.Key(), id), time.Duration(limit.Window)), int(limit.Units))
			require.Len(t, at, admitted*int(cost), "the limiter's record agrees with the answers")
			windows := int64(took/time.Duration(limit.Window)) + 1
			require.GreaterOrEqual(t, len(at), int(limit.Units)-before, "a full window's worth gets through")
			require.LessOrEqual(t, int64(len(at)), windows*limit.Units)
			require.Positive(t, refused)
			for other, req := range all {
				if seeded.Rule(other).Bucket != seeded.Rule(id).Bucket && other != "send_message_users" {
					got := app.Call(t, req.method, req.path, body(req.body), app.Token)
					require.NotContains(t, []int{http.StatusTooManyRequests, http.StatusForbidden}, got.Status, "%s must not notice", other)
				}
			}
		})
	}
}

func body(text string) any {
	if text == "" {
		return nil
	}
	return text
}
