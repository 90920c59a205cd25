package account_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/testkit/fixture"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

func (b *bench) setAttributes(t testing.TB, user string, attributes map[string]string) {
	t.Helper()
	_, err := b.attrs.SetUserAttributes(t.Context(), &accountv1.SetUserAttributesRequest{Org: org, App: app, Username: user, Attributes: attributes})
	require.NoError(t, err)
}

func (b *bench) attributes(t testing.TB, user string) map[string]string {
	t.Helper()
	resp, err := b.attrs.GetUserAttributes(t.Context(), &accountv1.GetUserAttributesRequest{Org: org, App: app, Username: user})
	require.NoError(t, err)
	return resp.GetAttributes()
}

func (b *bench) capacity(t testing.TB) int64 {
	t.Helper()
	resp, err := b.attrs.GetUserAttributesCapacity(t.Context(), &accountv1.GetUserAttributesCapacityRequest{Org: org, App: app})
	require.NoError(t, err)
	return resp.GetBytes()
}

func TestAttributesMergeAndAreDeleted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "amelia")
		require.Zero(t, b.capacity(t))
		resp, err := b.attrs.SetUserAttributes(t.Context(), &accountv1.SetUserAttributesRequest{
			Org: org, App: app, Username: "Amelia", Attributes: map[string]string{"nickname": "Amélie", "gender": "2", "ext": ""},
		})
		require.NoError(t, err)
		require.Equal(t, map[string]string{"nickname": "Amélie", "gender": "2", "ext": ""}, resp.GetAttributes())
		require.Equal(t, int64(8+7+6+1+3), b.capacity(t)) // bytes, not characters
		resp, err = b.attrs.SetUserAttributes(t.Context(), &accountv1.SetUserAttributesRequest{
			Org: org, App: app, Username: b.get(t, "amelia").GetUuid(), Attributes: map[string]string{"nickname": "A", "url": `<"&é>`},
		})
		require.NoError(t, err)
		b.setAttributes(t, "nul", map[string]string{"a\x00b": "c\x00"})
		require.Equal(t, map[string]string{"a\x00b": "c\x00"}, b.attributes(t, "nul"))
		_, err = b.attrs.DeleteUserAttributes(t.Context(), &accountv1.DeleteUserAttributesRequest{Org: org, App: app, Username: "nul"})
		require.NoError(t, err)
		require.Len(t, resp.GetAttributes(), 2) // those of the call, not all
		all := map[string]string{"nickname": "A", "gender": "2", "ext": "", "url": `<"&é>`}
		require.Equal(t, all, b.attributes(t, "AMELIA"))
		require.Equal(t, all, b.attributes(t, b.get(t, "amelia").GetUuid()))
		require.Equal(t, int64(9+7+3+3+6), b.capacity(t))

		b.setAttributes(t, "not-registered", map[string]string{"k": "v"})
		batch, err := b.attrs.BatchGetUserAttributes(t.Context(), &accountv1.BatchGetUserAttributesRequest{
			Org: org, App: app, Targets: []string{"nobody", "AMELIA", "not-registered", "a\x00b", "amelia"}, Properties: []string{"nickname", "k", "none"},
		})
		require.NoError(t, err)
		var got []string
		for _, u := range batch.GetUsers() {
			got = append(got, fmt.Sprint(u.GetUsername(), u.GetAttributes()))
		}
		require.Equal(t, []string{"nobodymap[]", "AMELIAmap[nickname:A]", "not-registeredmap[k:v]", "a\x00bmap[]", "ameliamap[nickname:A]"}, got)

		for range 2 {
			_, err = b.attrs.DeleteUserAttributes(t.Context(), &accountv1.DeleteUserAttributesRequest{Org: org, App: app, Username: "Amelia"})
			require.NoError(t, err)
			require.Empty(t, b.attributes(t, "amelia"))
			require.Equal(t, int64(2), b.capacity(t))
		}
		for _, name := range []string{"nobody", "a\x00b", "6c1f2e40-7a55-11ee-9c3b-0b6d2f1a9e77"} {
			require.Empty(t, b.attributes(t, name))
			_, err = b.attrs.DeleteUserAttributes(t.Context(), &accountv1.DeleteUserAttributesRequest{Org: org, App: app, Username: name})
			require.NoError(t, err)
		}
		_, err = b.attrs.GetUserAttributes(t.Context(), &accountv1.GetUserAttributesRequest{Org: org, App: app})
		wantMissing.check(t, err)
		_, err = b.attrs.DeleteUserAttributes(t.Context(), &accountv1.DeleteUserAttributesRequest{Org: org, App: app})
		wantMissing.check(t, err)
	})
}

func TestAttributeRefusals(t *testing.T) {
	t.Parallel()
	b := lite(t)
	b.register(t, "amelia")
	tooLarge := want{codes.PermissionDenied, errs.ReasonMetadataFull, "size of metadata for this single user exceeds the user defined limit, 2048Bytes"}
	of := func(bytes int) map[string]string { return map[string]string{"key": strings.Repeat("x", bytes-3)} }
	for _, c := range []struct {
		name, app, user string
		attributes      map[string]string
		want            want
	}{
		{name: "none", user: "amelia", want: wantInvalid},
		{name: "empty key", user: "amelia", attributes: map[string]string{"": "x"}, want: wantInvalid},
		{name: "illegal user", user: "a b", attributes: of(5), want: wantInvalid},
		{name: "key of broken UTF-8", user: "amelia", attributes: map[string]string{"\xff": "x"}, want: wantInvalid},
		{name: "value of broken UTF-8", user: "amelia", attributes: map[string]string{"x": "\xc3"}, want: wantInvalid},
		{name: "no user", attributes: of(5), want: wantInvalid},
		{name: "unknown app", app: "nochat", user: "amelia", attributes: of(5), want: wantNoApp},
		{name: "2,049 bytes", user: "amelia", attributes: of(2049), want: tooLarge},
		{name: "2,048 bytes", user: "amelia", attributes: of(2048)},
		{name: "one more beside them", user: "amelia", attributes: map[string]string{"a": ""}, want: tooLarge},
		{name: "fewer in their place", user: "amelia", attributes: of(2047)},
		{name: "one more beside those", user: "amelia", attributes: map[string]string{"a": ""}},
		{name: "unknown user", user: "nobody", attributes: of(2048)},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := app
			if c.app != "" {
				name = c.app
			}
			_, err := b.attrs.SetUserAttributes(t.Context(), &accountv1.SetUserAttributesRequest{Org: org, App: name, Username: c.user, Attributes: c.attributes})
			c.want.check(t, err)
		})
	}
	require.Equal(t, int64(4096), b.capacity(t))
	for name, req := range map[string]*accountv1.BatchGetUserAttributesRequest{
		"no targets":       {Properties: []string{"x"}},
		"nothing whatever": {},
	} {
		t.Run(name, func(t *testing.T) {
			req.Org, req.App = org, app
			_, err := b.attrs.BatchGetUserAttributes(t.Context(), req)
			wantInvalid.check(t, err)
		})
	}
	_, err := b.attrs.BatchGetUserAttributes(t.Context(), &accountv1.BatchGetUserAttributesRequest{Org: org, App: app, Targets: many(101, "u")})
	want{codes.InvalidArgument, errs.ReasonBadRequest, "exceed allowed batch size 100"}.check(t, err)
	_, err = b.attrs.BatchGetUserAttributes(t.Context(), &accountv1.BatchGetUserAttributesRequest{Org: org, App: app, Targets: many(100, "u"), Properties: []string{"x"}})
	require.NoError(t, err)
}

func TestParallelAttributesStayWithinTheUsersSize(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		var admitted atomic.Int32
		var wg sync.WaitGroup
		for i := range 40 { // of 100 bytes each: 20 fit into 2,048
			wg.Go(func() {
				_, err := b.attrs.SetUserAttributes(t.Context(), &accountv1.SetUserAttributesRequest{
					Org: org, App: app, Username: "amelia", Attributes: map[string]string{fmt.Sprintf("k%02d", i): strings.Repeat("x", 97)},
				})
				if err == nil {
					admitted.Add(1)
				} else if !errs.Is(err, errs.ReasonMetadataFull) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, int32(20), admitted.Load())
		require.Len(t, b.attributes(t, "amelia"), 20)
		require.Equal(t, int64(2000), b.capacity(t))
	})
}

func TestParallelAttributesStayWithinTheAppsSize(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.apps.edit(func(a *catalog.App) {
			a.Tier = fixture.Tier(t, "advanced", `{"sizes":{"user_attributes_bytes_per_app":1050}}`)
		})
		var admitted atomic.Int32
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				_, err := b.attrs.SetUserAttributes(t.Context(), &accountv1.SetUserAttributesRequest{
					Org: org, App: app, Username: fmt.Sprint("u", i), Attributes: map[string]string{"key": strings.Repeat("x", 97)},
				})
				if err == nil {
					admitted.Add(1)
				} else if !errs.Is(err, errs.ReasonMetadataFull) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, int32(10), admitted.Load())
		require.Equal(t, int64(1000), b.capacity(t))
		b.setAttributes(t, "small", map[string]string{"key": strings.Repeat("x", 47)}) // to the byte
		_, err := b.attrs.SetUserAttributes(t.Context(), &accountv1.SetUserAttributesRequest{Org: org, App: app, Username: "small", Attributes: map[string]string{"k": ""}})
		want{codes.PermissionDenied, errs.ReasonMetadataFull, "total size of user metadata for this app exceeds the user defined limit, 1050Bytes"}.check(t, err)
		require.Equal(t, int64(1050), b.capacity(t))
		b.setAttributes(t, "small", map[string]string{"key": "less"}) // always allowed
		require.Equal(t, int64(1007), b.capacity(t))
	})
}
