package limiter

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/etcdx"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// replaceLimit gives a tier document with another count for a call.
func replaceLimit(t testing.TB, document, rule string, count int64) string {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal([]byte(document), &m))
	m["rules"].(map[string]any)[rule] = map[string]any{"limits": []any{
		map[string]any{"count": count, "per": "second", "unit": "call", "scope": "app"},
	}}
	b, err := json.Marshal(m)
	require.NoError(t, err)
	return string(b)
}

func TestCreateApp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	resp, err := r.CreateApp(t.Context(), &limiterv1.CreateAppRequest{Org: "acme", App: "shop", Tier: "enterprise", Registration: "open"})
	require.NoError(t, err)
	a := resp.GetApp()
	require.Equal(t, "enterprise", a.GetTier())
	require.Equal(t, "open", a.GetRegistration())
	require.Regexp(t, `^YXA6[A-Za-z0-9_-]{22}$`, a.GetClientId())
	require.Regexp(t, `^YXA6[A-Za-z0-9_-]{32}$`, resp.GetClientSecret())
	require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-1[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, a.GetUuid())

	app, ok := r.catalog.App("acme", "shop")
	require.True(t, ok, "in force when the call returns")
	require.Equal(t, int64(1), app.Number)
	require.Equal(t, int64(8000), app.Tier.Quota("members_per_group"))
	require.True(t, app.CheckSecret(resp.GetClientSecret()))
	require.False(t, app.CheckSecret(resp.GetClientSecret()+"x"))
	require.True(t, app.Open())
	kv, err := r.etcd.Get(t.Context(), "/apps/acme/shop")
	require.NoError(t, err)
	require.NotContains(t, string(kv.Value), resp.GetClientSecret(), "the secret is not stored")

	second, err := r.CreateApp(t.Context(), &limiterv1.CreateAppRequest{Org: "acme", App: "blog", Tier: "free"})
	require.NoError(t, err)
	require.Equal(t, "authorized", second.GetApp().GetRegistration())
	blog, _ := r.catalog.App("acme", "blog")
	require.Equal(t, int64(2), blog.Number)
	require.NotEqual(t, app.SigningKey().Secret, blog.SigningKey().Secret)

	list, err := r.ListApps(t.Context(), &limiterv1.ListAppsRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetApps(), 2)

	for name, c := range map[string]struct {
		req  *limiterv1.CreateAppRequest
		code codes.Code
	}{
		"exists":           {&limiterv1.CreateAppRequest{Org: "acme", App: "shop", Tier: "free"}, codes.AlreadyExists},
		"unknown tier":     {&limiterv1.CreateAppRequest{Org: "acme", App: "x", Tier: "gold"}, codes.InvalidArgument},
		"no tier":          {&limiterv1.CreateAppRequest{Org: "acme", App: "x"}, codes.InvalidArgument},
		"upper case":       {&limiterv1.CreateAppRequest{Org: "acme", App: "Shop", Tier: "free"}, codes.InvalidArgument},
		"33 characters":    {&limiterv1.CreateAppRequest{Org: "acme", App: strings.Repeat("a", 33), Tier: "free"}, codes.InvalidArgument},
		"org with a slash": {&limiterv1.CreateAppRequest{Org: "a/b", App: "x", Tier: "free"}, codes.InvalidArgument},
		"registration":     {&limiterv1.CreateAppRequest{Org: "acme", App: "x", Tier: "free", Registration: "maybe"}, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.CreateApp(t.Context(), c.req)
			require.Equal(t, c.code, errs.From(err).Code, "%v", err)
		})
	}
}

func TestCreateAppsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var wg sync.WaitGroup
	made := make([]error, 12)
	for i := range made {
		wg.Go(func() {
			_, made[i] = r.CreateApp(t.Context(), &limiterv1.CreateAppRequest{Org: "acme", App: fmt.Sprintf("app-%d", i/2), Tier: "free"})
		})
	}
	wg.Wait()
	ok := 0
	for _, err := range made {
		if err == nil {
			ok++
		} else {
			require.Equal(t, codes.AlreadyExists, errs.From(err).Code, "%v", err)
		}
	}
	require.Equal(t, 6, ok, "each name once")
	numbers := map[int64]bool{}
	for _, a := range r.catalog.Apps() {
		numbers[a.Number] = true
	}
	require.Len(t, numbers, 6, "each number once")
}

func TestSetAppTierAndOverrides(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "shop", "free")
	_, err := r.SetAppTier(t.Context(), &limiterv1.SetAppTierRequest{Org: "acme", App: "shop", Tier: "advanced", Actor: "eve"})
	require.NoError(t, err)
	app, _ := r.catalog.App("acme", "shop")
	require.Equal(t, int64(3000), app.Tier.Quota("members_per_group"))

	resp, err := r.SetAppOverrides(t.Context(), &limiterv1.SetAppOverridesRequest{
		Org: "acme", App: "shop", Overrides: `{"quotas":{"members_per_group":7}}`, Actor: "eve",
	})
	require.NoError(t, err)
	require.JSONEq(t, `{"quotas":{"members_per_group":7}}`, resp.GetApp().GetOverrides())
	app, _ = r.catalog.App("acme", "shop")
	require.Equal(t, int64(7), app.Tier.Quota("members_per_group"))
	require.Equal(t, "advanced", app.TierName)

	for name, bad := range map[string]string{
		"unknown quota": `{"quotas":{"cats":7}}`, "negative": `{"quotas":{"groups":-7}}`, "not JSON": `{`,
		"unknown bucket": `{"rules":{"get_user":{"bucket":"x"}}}`,
	} {
		_, err := r.SetAppOverrides(t.Context(), &limiterv1.SetAppOverridesRequest{Org: "acme", App: "shop", Overrides: bad})
		require.Equal(t, codes.InvalidArgument, errs.From(err).Code, name)
	}
	_, err = r.SetAppTier(t.Context(), &limiterv1.SetAppTierRequest{Org: "acme", App: "shop", Tier: "gold"})
	require.Equal(t, codes.NotFound, errs.From(err).Code)
	_, err = r.SetAppTier(t.Context(), &limiterv1.SetAppTierRequest{Org: "acme", App: "nope", Tier: "free"})
	require.True(t, errs.Is(err, errs.ReasonAppNotFound))

	_, err = r.SetAppOverrides(t.Context(), &limiterv1.SetAppOverridesRequest{Org: "acme", App: "shop", Overrides: " \n"})
	require.NoError(t, err)
	app, _ = r.catalog.App("acme", "shop")
	require.Equal(t, int64(3000), app.Tier.Quota("members_per_group"))
	require.Empty(t, app.Overrides)

	changes, err := r.ListChanges(t.Context(), &limiterv1.ListChangesRequest{Subject: "app/acme/shop"})
	require.NoError(t, err)
	var lines []string
	for _, c := range changes.GetChanges() {
		lines = append(lines, c.GetActor()+": "+strings.Join(c.GetDetails(), "; "))
	}
	require.Equal(t, []string{
		"unknown: quotas.members_per_group: 7 -> 3000",
		"eve: quotas.members_per_group: 3000 -> 7",
		"eve: tier: free -> advanced",
		"unknown: created with tier free, registration authorized",
	}, lines, "newest first")
}

func TestRotateSecret(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	made, err := r.CreateApp(t.Context(), &limiterv1.CreateAppRequest{Org: "acme", App: "shop", Tier: "free"})
	require.NoError(t, err)
	before, _ := r.catalog.App("acme", "shop")
	resp, err := r.RotateAppSecret(t.Context(), &limiterv1.RotateAppSecretRequest{Org: "acme", App: "shop"})
	require.NoError(t, err)
	after, _ := r.catalog.App("acme", "shop")
	require.True(t, after.CheckSecret(resp.GetClientSecret()))
	require.False(t, after.CheckSecret(made.GetClientSecret()))
	require.Equal(t, before.Keys, after.Keys, "tokens stay valid")
	require.Equal(t, before.ClientID, after.ClientID)

	_, err = r.RotateAppSecret(t.Context(), &limiterv1.RotateAppSecretRequest{Org: "acme", App: "shop", RevokeTokens: true})
	require.NoError(t, err)
	revoked, _ := r.catalog.App("acme", "shop")
	require.Len(t, revoked.Keys, 1)
	require.NotEqual(t, before.Keys[0].ID, revoked.Keys[0].ID)
	require.NotEqual(t, before.Keys[0].Secret, revoked.Keys[0].Secret)
}

func TestTiers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	list, err := r.ListTiers(t.Context(), &limiterv1.ListTiersRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetTiers(), 4)
	got, err := r.GetTier(t.Context(), &limiterv1.GetTierRequest{Name: "free"})
	require.NoError(t, err)
	doc := replaceLimit(t, got.GetTier().GetDocument(), "get_user", 7)

	dry, err := r.PutTier(t.Context(), &limiterv1.PutTierRequest{Name: "free", Document: doc, DryRun: true})
	require.NoError(t, err)
	want := []string{"rules.get_user: 100 calls/second/app -> 7 calls/second/app"}
	require.Equal(t, want, dry.GetChanges())
	same, err := r.GetTier(t.Context(), &limiterv1.GetTierRequest{Name: "free"})
	require.NoError(t, err)
	require.Equal(t, got.GetTier().GetDocument(), same.GetTier().GetDocument(), "a dry run changes nothing")

	put, err := r.PutTier(t.Context(), &limiterv1.PutTierRequest{Name: "free", Document: doc, Actor: "eve"})
	require.NoError(t, err)
	require.Equal(t, want, put.GetChanges())
	require.Greater(t, put.GetTier().GetRevision(), got.GetTier().GetRevision())
	free, _ := r.catalog.Tier("free")
	require.Equal(t, int64(7), free.Rule("get_user").Limits[0].Units)
	again, err := r.PutTier(t.Context(), &limiterv1.PutTierRequest{Name: "free", Document: doc})
	require.NoError(t, err)
	require.Empty(t, again.GetChanges())
	require.Equal(t, put.GetTier().GetRevision(), again.GetTier().GetRevision(), "nothing changed, nothing written")

	own := strings.Replace(doc, `"name":"free"`, `"name":"gold"`, 1)
	_, err = r.PutTier(t.Context(), &limiterv1.PutTierRequest{Name: "gold", Document: own})
	require.NoError(t, err)
	r.app(t, "shop", "gold")
	err = errOf(r.DeleteTier(t.Context(), &limiterv1.DeleteTierRequest{Name: "gold"}))
	require.Equal(t, codes.FailedPrecondition, errs.From(err).Code, "an app has it")
	_, err = r.SetAppTier(t.Context(), &limiterv1.SetAppTierRequest{Org: "acme", App: "shop", Tier: "free"})
	require.NoError(t, err)
	require.NoError(t, errOf(r.DeleteTier(t.Context(), &limiterv1.DeleteTierRequest{Name: "gold", Actor: "eve"})))
	require.Equal(t, codes.NotFound, errs.From(errOf(r.GetTier(t.Context(), &limiterv1.GetTierRequest{Name: "gold"}))).Code)

	changes, err := r.ListChanges(t.Context(), &limiterv1.ListChangesRequest{Subject: "tier/gold"})
	require.NoError(t, err)
	require.Len(t, changes.GetChanges(), 2)
	require.Equal(t, []string{"deleted"}, changes.GetChanges()[0].GetDetails())
	require.Error(t, errOf(r.ListChanges(t.Context(), &limiterv1.ListChangesRequest{Subject: "cats"})))
}

func TestPutTierRefusesBadDocuments(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	got, err := r.GetTier(t.Context(), &limiterv1.GetTierRequest{Name: "free"})
	require.NoError(t, err)
	good := got.GetTier().GetDocument()
	bad := strings.NewReplacer(`"groups":100`, `"groups":-1`, `"chatrooms":0`, `"cats":0`).Replace(good)
	err = errOf(r.PutTier(t.Context(), &limiterv1.PutTierRequest{Name: "free", Document: bad}))
	e := errs.From(err)
	require.Equal(t, codes.InvalidArgument, e.Code)
	for _, fault := range []string{"quotas.groups: must be at least 0", "quotas.cats: unknown name", "quotas.chatrooms: is missing"} {
		require.Contains(t, e.Message, fault, "all faults at once")
	}
	require.Equal(t, codes.InvalidArgument, errs.From(errOf(r.PutTier(t.Context(), &limiterv1.PutTierRequest{Name: "basic", Document: good}))).Code)

	// Overrides that need a bucket keep the tier from losing it.
	withBucket := strings.Replace(good, `"shared_buckets":{`, `"shared_buckets":{"extra":{"limits":[{"count":1,"per":"second","unit":"call","scope":"app"}]},`, 1)
	_, err = r.PutTier(t.Context(), &limiterv1.PutTierRequest{Name: "free", Document: withBucket})
	require.NoError(t, err)
	r.app(t, "shop", "free")
	_, err = r.SetAppOverrides(t.Context(), &limiterv1.SetAppOverridesRequest{Org: "acme", App: "shop", Overrides: `{"rules":{"get_user":{"bucket":"extra"}}}`})
	require.NoError(t, err)
	err = errOf(r.PutTier(t.Context(), &limiterv1.PutTierRequest{Name: "free", Document: good}))
	require.Equal(t, codes.FailedPrecondition, errs.From(err).Code)
	require.ErrorContains(t, err, "acme/shop")
	err = errOf(r.SetAppTier(t.Context(), &limiterv1.SetAppTierRequest{Org: "acme", App: "shop", Tier: "basic"}))
	require.ErrorContains(t, err, "overrides do not fit")
}

func TestHistoryIsCut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cfg.KeepChanges = 3
	for i := range 5 {
		c, err := r.change("eve", "tier/x", []string{fmt.Sprint(i)})
		require.NoError(t, err)
		_, _, err = r.etcd.Commit(t.Context(), nil, []etcdx.Write{c})
		require.NoError(t, err)
	}
	require.NoError(t, r.prune(t.Context()))
	changes, err := r.changes(t.Context(), "", 0)
	require.NoError(t, err)
	require.Len(t, changes, 3)
	require.Equal(t, []string{"4"}, changes[0].Details)
}

func errOf[T any](_ T, err error) error { return err }
