package routes_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
	"github.com/chappe-im/chappe/services/gateway/restjson"
	"github.com/chappe-im/chappe/services/gateway/routes"
)

// bodyOf finds how the body of a request is read.
func bodyOf(t *testing.T, m proto.Message) *restjson.Body {
	t.Helper()
	for _, r := range routes.All() {
		if r.Descriptor().Input().FullName() == m.ProtoReflect().Descriptor().FullName() {
			return &r.Body
		}
	}
	require.Fail(t, "no call takes this request")
	return nil
}

func TestBodies(t *testing.T) {
	t.Parallel()
	str, i64, i32 := proto.String, proto.Int64, proto.Int32
	for _, c := range []struct {
		name string
		body string
		form bool
		into proto.Message
		want proto.Message // nil: the body does not fit
	}{
		{name: "nothing", into: &accountv1.IssueTokenRequest{}, want: &accountv1.IssueTokenRequest{}},
		{name: "only space", body: " \n", into: &accountv1.IssueTokenRequest{}, want: &accountv1.IssueTokenRequest{}},
		{
			name: "both names, unknown ones", body: `{"autoCreateUser":true,"auto_create_user":false,"timestamp":17,"x":{"y":[1]}}`,
			into: &accountv1.IssueTokenRequest{}, want: &accountv1.IssueTokenRequest{},
		},
		{name: "names are case-sensitive", body: `{"Username":"a","USERNAME":"b"}`, into: &accountv1.IssueTokenRequest{}, want: &accountv1.IssueTokenRequest{}},
		{name: "number as string", body: `{"ttl":"1024000"}`, into: &accountv1.IssueTokenRequest{}, want: &accountv1.IssueTokenRequest{Ttl: i64(1024000)}},
		{name: "number with fraction zero", body: `{"ttl":7.0}`, into: &accountv1.IssueTokenRequest{}, want: &accountv1.IssueTokenRequest{Ttl: i64(7)}},
		{name: "number with exponent", body: `{"ttl":1e3}`, into: &accountv1.IssueTokenRequest{}, want: &accountv1.IssueTokenRequest{Ttl: i64(1000)}},
		{name: "the largest number", body: `{"ttl":9223372036854775807}`, into: &accountv1.IssueTokenRequest{}, want: &accountv1.IssueTokenRequest{Ttl: i64(9223372036854775807)}},
		{name: "null is absent", body: `{"ttl":null,"username":null}`, into: &accountv1.IssueTokenRequest{}, want: &accountv1.IssueTokenRequest{}},
		{name: "bool as string", body: `{"autoCreateUser":"true"}`, into: &accountv1.IssueTokenRequest{}, want: &accountv1.IssueTokenRequest{AutoCreateUser: true}},
		{name: "escapes", body: `{"username":"a\u0042\"\ud83d\ude00"}`, into: &accountv1.IssueTokenRequest{}, want: &accountv1.IssueTokenRequest{Username: "aB\"😀"}},
		{name: "escaped name", body: `{"user\u006eame":"a"}`, into: &accountv1.IssueTokenRequest{}, want: &accountv1.IssueTokenRequest{Username: "a"}},
		{name: "the last of two", body: `{"username":"a","username":"b"}`, into: &accountv1.IssueTokenRequest{}, want: &accountv1.IssueTokenRequest{Username: "b"}},
		{name: "the app stands in the path", body: `{"org":"x","app":"y"}`, into: &accountv1.IssueTokenRequest{}, want: &accountv1.IssueTokenRequest{}},

		{
			name: "password, both spellings", body: `{"newpassword":"n","oldPassword":"o"}`, into: &accountv1.ChangePasswordRequest{},
			want: &accountv1.ChangePasswordRequest{Newpassword: "n", Oldpassword: str("o")},
		},
		{
			name: "password, only the gateway says who calls", body: `{"newpassword":"n","check_old":true,"checkOld":true}`, into: &accountv1.ChangePasswordRequest{},
			want: &accountv1.ChangePasswordRequest{Newpassword: "n"},
		},

		{name: "register, nothing", into: &accountv1.RegisterUsersRequest{}, want: &accountv1.RegisterUsersRequest{Users: []*accountv1.NewUser{{}}}},
		{
			name: "register, only the gateway says who calls", body: `{"username":"a","anonymous":true,"batch":true,"users":[{}]}`, into: &accountv1.RegisterUsersRequest{},
			want: &accountv1.RegisterUsersRequest{Users: []*accountv1.NewUser{{Username: str("a")}}},
		},
		{name: "register, empty array", body: `[]`, into: &accountv1.RegisterUsersRequest{}, want: &accountv1.RegisterUsersRequest{Batch: true}},

		{
			name: "push, hours as strings", body: `{"notification_no_disturbing_start":"22","notification_no_disturbing_end":7}`, into: &accountv1.UpdatePushSettingsRequest{},
			want: &accountv1.UpdatePushSettingsRequest{NotificationNoDisturbingStart: i32(22), NotificationNoDisturbingEnd: i32(7)},
		},
		{
			name: "push, groups", body: `{"notification_ignore_17":true,"notification_ignore_18":"false","notification_ignore_19":null,"notification_ignore":{"1":true},"notification_ignore_":true}`,
			into: &accountv1.UpdatePushSettingsRequest{}, want: &accountv1.UpdatePushSettingsRequest{NotificationIgnore: map[string]bool{"17": true, "18": false}},
		},

		{name: "unsubscribe, object", body: `{"usernames":["a"],"x":1}`, into: &presencev1.UnsubscribePresenceRequest{}, want: &presencev1.UnsubscribePresenceRequest{Usernames: []string{"a"}}},
		{name: "unsubscribe, empty", body: `[]`, into: &presencev1.UnsubscribePresenceRequest{}, want: &presencev1.UnsubscribePresenceRequest{}},

		{
			name: "attributes, form", body: `nickname=A+B&sign=%E4%BD%A0&sign=2&empty=`, form: true, into: &accountv1.SetUserAttributesRequest{},
			want: &accountv1.SetUserAttributesRequest{Attributes: map[string]string{"nickname": "A B", "sign": "2", "empty": ""}},
		},
		{
			name: "attributes, JSON labelled as a form", body: `{"nickname":"A"}`, form: true, into: &accountv1.SetUserAttributesRequest{},
			want: &accountv1.SetUserAttributesRequest{Attributes: map[string]string{"nickname": "A"}},
		},
		{
			name: "attributes, JSON scalars", body: `{"gender":2,"b":true}`, into: &accountv1.SetUserAttributesRequest{},
			want: &accountv1.SetUserAttributesRequest{Attributes: map[string]string{"gender": "2", "b": "true"}},
		},
		{name: "attributes, JSON object inside", body: `{"a":{}}`, into: &accountv1.SetUserAttributesRequest{}},
		{name: "attributes, broken escape", body: `a=%zz`, form: true, into: &accountv1.SetUserAttributesRequest{}},
		{name: "attributes, JSON that is no object under a form's label", body: `["a=b"]`, form: true, into: &accountv1.SetUserAttributesRequest{}},
		{name: "attributes, a number under a form's label", body: `7`, form: true, into: &accountv1.SetUserAttributesRequest{}},
		{name: "attributes, no UTF-8", body: `a=%ff`, form: true, into: &accountv1.SetUserAttributesRequest{}},

		{name: "send, nothing", into: &messagingv1.SendToUsersRequest{}, want: &messagingv1.SendToUsersRequest{}},
		{
			name: "send, all", body: ` { "from" : "shop" , "to" : [ "a" , "b" ] , "type":"cmd","body":{"action":"x"},"ext":{"deep":[{"a":"}]"}]},"sync_device":"true","routetype":"ROUTE_ONLINE","msg_timestamp":"17"} `,
			into: &messagingv1.SendToUsersRequest{}, want: &messagingv1.SendToUsersRequest{
				From: str("shop"), To: []string{"a", "b"}, Type: "cmd", Body: []byte(`{"action":"x"}`),
				Ext: []byte(`{"deep":[{"a":"}]"}]}`), SyncDevice: true, Routetype: "ROUTE_ONLINE", MsgTimestamp: 17,
			},
		},
		{name: "send, empty from is not absent", body: `{"from":""}`, into: &messagingv1.SendToUsersRequest{}, want: &messagingv1.SendToUsersRequest{From: str("")}},
		{
			name: "send, null is the service's business", body: `{"ext":null,"body":null,"from":null,"to":null}`, into: &messagingv1.SendToUsersRequest{},
			want: &messagingv1.SendToUsersRequest{Ext: []byte("null"), Body: []byte("null")},
		},
		{
			name: "send, so is an ext that is no object", body: `{"ext":"x"}`, into: &messagingv1.SendToUsersRequest{},
			want: &messagingv1.SendToUsersRequest{Ext: []byte(`"x"`)},
		},
		{name: "send, body is no object", body: `{"body":7}`, into: &messagingv1.SendToUsersRequest{}},
		{
			name: "old send", body: `{"target_type":"users","target":["a"],"msg":{"type":"txt"},"from":"b","ext":null,"routetype":null,"sync_device":"true"}`,
			into: &messagingv1.SendMessageRequest{}, want: &messagingv1.SendMessageRequest{
				TargetType: "users", Target: []string{"a"}, Msg: []byte(`{"type":"txt"}`), From: str("b"), Ext: []byte("null"), SyncDevice: true,
			},
		},
		{name: "old send, nothing", into: &messagingv1.SendMessageRequest{}, want: &messagingv1.SendMessageRequest{}},
		{name: "old send, target is a word", body: `{"target":"a"}`, into: &messagingv1.SendMessageRequest{}},
		{name: "old send, array", body: `[]`, into: &messagingv1.SendMessageRequest{}},
		{name: "send, one target without array", body: `{"to":"a"}`, into: &messagingv1.SendToUsersRequest{}},
		{name: "send, from is a number", body: `{"from":7}`, into: &messagingv1.SendToUsersRequest{}},
		{name: "send, type is a number", body: `{"type":7}`, into: &messagingv1.SendToUsersRequest{}},
		{name: "send, sync_device is a number", body: `{"sync_device":1}`, into: &messagingv1.SendToUsersRequest{}},
		{name: "send, the app stands in the path", body: `{"org":"x","app":"y"}`, into: &messagingv1.SendToUsersRequest{}, want: &messagingv1.SendToUsersRequest{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			body := []byte(c.body)
			err := bodyOf(t, c.into).Into(c.into, body, c.form)
			if c.want == nil {
				want := errs.Invalid(errs.MessageInvalidRequest)
				switch c.into.(type) {
				case *messagingv1.SendToUsersRequest, *messagingv1.SendMessageRequest:
					want = errs.InvalidBody()
				case *accountv1.UpdatePushSettingsRequest:
					require.ErrorContains(t, err, "parameters is invalid : notification_")
					return
				}
				require.Equal(t, want, errs.From(err))
				return
			}
			require.NoError(t, err)
			clear(body) // the buffer is used again
			require.True(t, proto.Equal(c.want, c.into), "got %v", c.into)
		})
	}
}

func TestBrokenBodies(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"a":"=",}`, `{"a`, `[1,"="`, `hello`} {
		err := bodyOf(t, &accountv1.SetUserAttributesRequest{}).Into(&accountv1.SetUserAttributesRequest{}, []byte(body), true)
		require.True(t, errs.Is(err, errs.ReasonJSON), "%s is no form: %v", body, err)
	}
	for _, m := range []proto.Message{
		&accountv1.RegisterUsersRequest{}, &accountv1.IssueTokenRequest{},
		&accountv1.UpdatePushSettingsRequest{}, &presencev1.UnsubscribePresenceRequest{}, &accountv1.SetUserAttributesRequest{},
	} {
		err := bodyOf(t, m).Into(m, []byte(`{"to":["a",]}`), false)
		require.True(t, errs.Is(err, errs.ReasonJSON), "%T: %v", m, err)
		require.Equal(t, "Unexpected character (']' (code 93)): was expecting a value (string, number, object, array, true, false or null) at [line 1, column 12]",
			errs.From(err).Message)
	}
	for _, m := range []proto.Message{&messagingv1.SendToUsersRequest{}, &messagingv1.SendMessageRequest{}} {
		require.Equal(t, errs.InvalidBody(), errs.From(bodyOf(t, m).Into(m, []byte(`{"to":["a",]}`), false)))
	}
}
