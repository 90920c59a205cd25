package gateway_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/token"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

func amelia() *accountv1.User {
	return &accountv1.User{
		Uuid: "6c1f2e40-7a55-11ee-9c3b-0b6d2f1a9e77", Created: 1700000000123, Modified: 1700000000123,
		Username: "amelia", Activated: true, Nickname: proto.String("Amelia P."),
	}
}

func bruno() *accountv1.User {
	return &accountv1.User{
		Uuid: "6c1f5550-7a55-11ee-9c3b-57c2aa41be02", Created: 1700000000125, Modified: 1700000000125,
		Username: "bruno", Activated: true,
	}
}

const (
	ameliaJSON = `{"uuid":"6c1f2e40-7a55-11ee-9c3b-0b6d2f1a9e77","type":"user","created":1700000000123,"modified":1700000000123,"username":"amelia","activated":true,"nickname":"Amelia P."}`
	brunoJSON  = `{"uuid":"6c1f5550-7a55-11ee-9c3b-57c2aa41be02","type":"user","created":1700000000125,"modified":1700000000125,"username":"bruno","activated":true}`
	appJSON    = `"application":"b7d3c5a0-1f0e-11ee-8a44-5d0c9be1f201","organization":"acme","applicationName":"chat"`
	timesJSON  = `"timestamp":0,"duration":0`
	base       = "http://im.example.com/acme/chat"
)

// okJSON is the answer of client calls that have nothing to tell.
func okJSON(action, path string) string {
	return `{"action":"` + action + `","uri":"` + base + path + `","entities":[],"data":{"result":true},` + timesJSON + `}`
}

// TestAnswers holds one case for each form of answer of each row of the wire
// contract: the call as a client sends it, what the service is asked, what it
// answers, and the whole body that the client gets.
func TestAnswers(t *testing.T) {
	t.Parallel()
	full := amelia()
	full.NotificationDisplayStyle = proto.Int32(1)
	full.NotificationNoDisturbing = proto.Bool(true)
	full.NotificationNoDisturbingStart = proto.Int32(22)
	full.NotificationNoDisturbingEnd = proto.Int32(7)
	full.NotificationIgnore = map[string]bool{"184524748161025": true}
	full.NotifierName = proto.String("gcm-main")
	full.DeviceToken = proto.String("dt-0001")
	banned := amelia()
	banned.Activated = false

	for _, c := range []struct {
		name               string
		method, path, body string
		rpc                string
		rule               string
		cost               int64
		asked              proto.Message
		answer             proto.Message
		want               string
	}{
		{
			name: "register one", method: "POST", path: "/users", body: `{"username":"amelia","password":"s3cret-1","nickname":"Amelia P."}`,
			rpc: accountv1.UserService_RegisterUsers_FullMethodName, rule: "register_user",
			asked: &accountv1.RegisterUsersRequest{Org: "acme", App: "chat", Users: []*accountv1.NewUser{
				{Username: proto.String("amelia"), Password: proto.String("s3cret-1"), Nickname: proto.String("Amelia P.")},
			}},
			answer: &accountv1.RegisterUsersResponse{Users: []*accountv1.User{amelia()}},
			want:   `{"action":"post",` + appJSON + `,"path":"/users","uri":"` + base + `/users","entities":[` + ameliaJSON + `],` + timesJSON + `}`,
		},
		{
			name: "register many", method: "POST", path: "/users", body: `[{"username":"amelia","password":"a"},{"username":"carla","password":"c"}]`,
			rpc: accountv1.UserService_RegisterUsers_FullMethodName, rule: "register_users_batch",
			asked: &accountv1.RegisterUsersRequest{Org: "acme", App: "chat", Batch: true, Users: []*accountv1.NewUser{
				{Username: proto.String("amelia"), Password: proto.String("a")}, {Username: proto.String("carla"), Password: proto.String("c")},
			}},
			answer: &accountv1.RegisterUsersResponse{
				Batch: true, Users: []*accountv1.User{amelia(), bruno()},
				Failures: []*accountv1.RegisterFailure{{Username: "carla", Reason: "the carla already exists"}},
			},
			want: `{"action":"post",` + appJSON + `,"path":"/users","uri":"` + base + `/users","entities":[` + ameliaJSON + `,` + brunoJSON +
				`],"data":[{"username":"carla","registerUserFailReason":"the carla already exists"}],` + timesJSON + `}`,
		},
		{
			name: "register many, all good", method: "POST", path: "/users", body: `[{"username":"amelia","password":"a"}]`,
			rpc: accountv1.UserService_RegisterUsers_FullMethodName, rule: "register_users_batch",
			answer: &accountv1.RegisterUsersResponse{Batch: true, Users: []*accountv1.User{amelia()}},
			want:   `{"action":"post",` + appJSON + `,"path":"/users","uri":"` + base + `/users","entities":[` + ameliaJSON + `],"data":[],` + timesJSON + `}`,
		},
		{
			name: "app token", method: "POST", path: "/token", body: `{"grant_type":"client_credentials","client_id":"YXA6id","client_secret":"YXA6s","ttl":"86400"}`,
			rpc: accountv1.TokenService_IssueToken_FullMethodName, rule: "get_token",
			asked:  &accountv1.IssueTokenRequest{Org: "acme", App: "chat", GrantType: "client_credentials", ClientId: "YXA6id", ClientSecret: "YXA6s", Ttl: proto.Int64(86400)},
			answer: &accountv1.IssueTokenResponse{AccessToken: "YWMtApp", ExpiresIn: 86400, Application: appUUID},
			want:   `{"access_token":"YWMtApp","expires_in":86400,"application":"` + appUUID + `"}`,
		},
		{
			name: "user token", method: "POST", path: "/token", body: `{"grant_type":"inherit","username":"amelia","autoCreateUser":true,"ttl":7200}`,
			rpc: accountv1.TokenService_IssueToken_FullMethodName, rule: "get_token",
			asked:  &accountv1.IssueTokenRequest{Org: "acme", App: "chat", GrantType: "inherit", Username: "amelia", AutoCreateUser: true, Ttl: proto.Int64(7200)},
			answer: &accountv1.IssueTokenResponse{AccessToken: "YWMtUser", ExpiresIn: 7200, User: amelia()},
			want:   `{"access_token":"YWMtUser","expires_in":7200,"user":` + ameliaJSON + `}`,
		},
		{
			name: "get one", method: "GET", path: "/users/Amelia", rpc: accountv1.UserService_GetUser_FullMethodName, rule: "get_user",
			asked:  &accountv1.GetUserRequest{Org: "acme", App: "chat", Username: "Amelia"},
			answer: &accountv1.GetUserResponse{User: full},
			want: `{"action":"get","path":"/users","uri":"` + base + `/users/Amelia","entities":[{"uuid":"6c1f2e40-7a55-11ee-9c3b-0b6d2f1a9e77","type":"user",
				"created":1700000000123,"modified":1700000000123,"username":"amelia","activated":true,"nickname":"Amelia P.",
				"notification_display_style":1,"notification_no_disturbing":true,"notification_no_disturbing_start":22,"notification_no_disturbing_end":7,
				"notification_ignore_184524748161025":true,"notifier_name":"gcm-main","device_token":"dt-0001"}],` + timesJSON + `,"count":1}`,
		},
		{
			name: "list, more to come", method: "GET", path: "/users?limit=2&cursor=abc&_v=17", rpc: accountv1.UserService_ListUsers_FullMethodName, rule: "list_users",
			asked:  &accountv1.ListUsersRequest{Org: "acme", App: "chat", Limit: proto.Int32(2), Cursor: "abc"},
			answer: &accountv1.ListUsersResponse{Users: []*accountv1.User{amelia(), bruno()}, Cursor: "MTcw"},
			want: `{"action":"get","params":{"limit":["2"],"cursor":["abc"],"_v":["17"]},"path":"/users","uri":"` + base + `/users","entities":[` +
				ameliaJSON + `,` + brunoJSON + `],` + timesJSON + `,"cursor":"MTcw","count":2}`,
		},
		{
			name: "list, empty", method: "GET", path: "/users", rpc: accountv1.UserService_ListUsers_FullMethodName, rule: "list_users",
			asked:  &accountv1.ListUsersRequest{Org: "acme", App: "chat"},
			answer: &accountv1.ListUsersResponse{},
			want:   `{"action":"get","path":"/users","uri":"` + base + `/users","entities":[],` + timesJSON + `,"count":0}`,
		},
		{
			name: "delete one", method: "DELETE", path: "/users/amelia", rpc: accountv1.UserService_DeleteUser_FullMethodName, rule: "delete_user",
			asked:  &accountv1.DeleteUserRequest{Org: "acme", App: "chat", Username: "amelia"},
			answer: &accountv1.DeleteUserResponse{User: amelia()},
			want:   `{"action":"delete",` + appJSON + `,"path":"/users","uri":"` + base + `/users","entities":[` + ameliaJSON + `],` + timesJSON + `}`,
		},
		{
			name: "delete many", method: "DELETE", path: "/users?limit=2", rpc: accountv1.UserService_DeleteUsers_FullMethodName, rule: "delete_users_batch",
			asked:  &accountv1.DeleteUsersRequest{Org: "acme", App: "chat", Limit: proto.Int32(2)},
			answer: &accountv1.DeleteUsersResponse{Users: []*accountv1.User{amelia(), bruno()}, Cursor: "MTcw"},
			want: `{"action":"delete",` + appJSON + `,"params":{"limit":["2"]},"path":"/users","uri":"` + base + `/users","entities":[` +
				ameliaJSON + `,` + brunoJSON + `],` + timesJSON + `,"cursor":"MTcw"}`,
		},
		{
			name: "password", method: "PUT", path: "/users/amelia/password", body: `{"newpassword":"n3w"}`,
			rpc: accountv1.UserService_ChangePassword_FullMethodName, rule: "change_password",
			asked:  &accountv1.ChangePasswordRequest{Org: "acme", App: "chat", Username: "amelia", Newpassword: "n3w"},
			answer: &accountv1.ChangePasswordResponse{},
			want:   `{"action":"set user password",` + timesJSON + `}`,
		},
		{
			name: "password, by POST", method: "POST", path: "/users/amelia/password", body: `{"newpassword":"n3w"}`,
			rpc: accountv1.UserService_ChangePassword_FullMethodName, rule: "change_password",
			answer: &accountv1.ChangePasswordResponse{},
			want:   `{"action":"set user password",` + timesJSON + `}`,
		},
		{
			name: "ban", method: "POST", path: "/users/amelia/deactivate", rpc: accountv1.UserService_DeactivateUser_FullMethodName, rule: "deactivate_user",
			asked:  &accountv1.DeactivateUserRequest{Org: "acme", App: "chat", Username: "amelia"},
			answer: &accountv1.DeactivateUserResponse{User: banned},
			want: `{"action":"Deactivate user","entities":[{"uuid":"6c1f2e40-7a55-11ee-9c3b-0b6d2f1a9e77","type":"user","created":1700000000123,
				"modified":1700000000123,"username":"amelia","activated":false,"nickname":"Amelia P."}],` + timesJSON + `}`,
		},
		{
			name: "unban", method: "POST", path: "/users/amelia/activate", rpc: accountv1.UserService_ActivateUser_FullMethodName, rule: "activate_user",
			asked:  &accountv1.ActivateUserRequest{Org: "acme", App: "chat", Username: "amelia"},
			answer: &accountv1.ActivateUserResponse{},
			want:   `{"action":"activate user",` + timesJSON + `}`,
		},
		{
			name: "push nickname", method: "PUT", path: "/users/amelia", body: `{"nickname":"Amelia P."}`,
			rpc: accountv1.UserService_UpdatePushSettings_FullMethodName, rule: "set_push_nickname",
			asked:  &accountv1.UpdatePushSettingsRequest{Org: "acme", App: "chat", Username: "amelia", Nickname: proto.String("Amelia P.")},
			answer: &accountv1.UpdatePushSettingsResponse{User: amelia()},
			want:   `{"action":"put",` + appJSON + `,"path":"/users","uri":"` + base + `/users","entities":[` + ameliaJSON + `],` + timesJSON + `}`,
		},
		{
			name: "push display style", method: "PUT", path: "/users/amelia", body: `{"notification_display_style":"1"}`,
			rpc: accountv1.UserService_UpdatePushSettings_FullMethodName, rule: "set_push_display_style",
			asked:  &accountv1.UpdatePushSettingsRequest{Org: "acme", App: "chat", Username: "amelia", NotificationDisplayStyle: proto.Int32(1)},
			answer: &accountv1.UpdatePushSettingsResponse{User: amelia()},
			want:   `{"action":"put",` + appJSON + `,"path":"/users","uri":"` + base + `/users","entities":[` + ameliaJSON + `],` + timesJSON + `}`,
		},
		{
			name: "do not disturb", method: "PUT", path: "/users/amelia",
			body: `{"notification_no_disturbing":true,"notification_no_disturbing_start":"22","notification_no_disturbing_end":7,"notification_ignore_184524748161025":true}`,
			rpc:  accountv1.UserService_UpdatePushSettings_FullMethodName, rule: "set_push_do_not_disturb",
			asked: &accountv1.UpdatePushSettingsRequest{
				Org: "acme", App: "chat", Username: "amelia", NotificationNoDisturbing: proto.Bool(true),
				NotificationNoDisturbingStart: proto.Int32(22), NotificationNoDisturbingEnd: proto.Int32(7), NotificationIgnore: map[string]bool{"184524748161025": true},
			},
			answer: &accountv1.UpdatePushSettingsResponse{User: amelia()},
			want:   `{"action":"put",` + appJSON + `,"path":"/users","uri":"` + base + `/users","entities":[` + ameliaJSON + `],` + timesJSON + `}`,
		},
		{
			name: "set attributes", method: "PUT", path: "/metadata/user/amelia", body: `nickname=Amelia&avatarurl=https%3A%2F%2Fcdn.example.com%2Fa.png&gender=2`,
			rpc: accountv1.AttributeService_SetUserAttributes_FullMethodName, rule: "set_user_attributes",
			asked: &accountv1.SetUserAttributesRequest{
				Org: "acme", App: "chat", Username: "amelia",
				Attributes: map[string]string{"nickname": "Amelia", "avatarurl": "https://cdn.example.com/a.png", "gender": "2"},
			},
			answer: &accountv1.SetUserAttributesResponse{Attributes: map[string]string{"nickname": "Amelia", "avatarurl": "https://cdn.example.com/a.png", "gender": "2"}},
			want:   `{"data":{"nickname":"Amelia","avatarurl":"https://cdn.example.com/a.png","gender":"2"},` + timesJSON + `}`,
		},
		{
			name: "get attributes", method: "GET", path: "/metadata/user/amelia", rpc: accountv1.AttributeService_GetUserAttributes_FullMethodName, rule: "get_user_attributes",
			asked:  &accountv1.GetUserAttributesRequest{Org: "acme", App: "chat", Username: "amelia"},
			answer: &accountv1.GetUserAttributesResponse{},
			want:   `{"data":{},` + timesJSON + `}`,
		},
		{
			name: "capacity", method: "GET", path: "/metadata/user/capacity", rpc: accountv1.AttributeService_GetUserAttributesCapacity_FullMethodName, rule: "get_user_attributes_capacity",
			asked:  &accountv1.GetUserAttributesCapacityRequest{Org: "acme", App: "chat"},
			answer: &accountv1.GetUserAttributesCapacityResponse{Bytes: 1673},
			want:   `{"data":1673,` + timesJSON + `}`,
		},
		{
			name: "attributes of many", method: "POST", path: "/metadata/user/get", body: `{"targets":["amelia","nobody","amelia"],"properties":["nickname"]}`,
			rpc: accountv1.AttributeService_BatchGetUserAttributes_FullMethodName, rule: "get_users_attributes_batch",
			asked: &accountv1.BatchGetUserAttributesRequest{Org: "acme", App: "chat", Targets: []string{"amelia", "nobody", "amelia"}, Properties: []string{"nickname"}},
			answer: &accountv1.BatchGetUserAttributesResponse{Users: []*accountv1.UserAttributes{
				{Username: "amelia", Attributes: map[string]string{"nickname": "Amelia"}}, {Username: "nobody"}, {Username: "amelia", Attributes: map[string]string{"nickname": "Amelia"}},
			}},
			want: `{"data":{"amelia":{"nickname":"Amelia"},"nobody":{}},` + timesJSON + `}`,
		},
		{
			name: "delete attributes", method: "DELETE", path: "/metadata/user/amelia", rpc: accountv1.AttributeService_DeleteUserAttributes_FullMethodName, rule: "delete_user_attributes",
			asked:  &accountv1.DeleteUserAttributesRequest{Org: "acme", App: "chat", Username: "amelia"},
			answer: &accountv1.DeleteUserAttributesResponse{},
			want:   `{"data":true,` + timesJSON + `}`,
		},
		{
			name: "add contact", method: "POST", path: "/users/amelia/contacts/users/bruno", rpc: accountv1.RelationService_AddContact_FullMethodName, rule: "add_contact",
			asked:  &accountv1.AddContactRequest{Org: "acme", App: "chat", OwnerUsername: "amelia", FriendUsername: "bruno"},
			answer: &accountv1.AddContactResponse{OwnerUuid: amelia().GetUuid(), Friend: bruno()},
			want: `{"action":"post",` + appJSON + `,"path":"/users/6c1f2e40-7a55-11ee-9c3b-0b6d2f1a9e77/contacts","uri":"` + base +
				`/users/6c1f2e40-7a55-11ee-9c3b-0b6d2f1a9e77/contacts","entities":[` + brunoJSON + `],` + timesJSON + `}`,
		},
		{
			name: "remove contact", method: "DELETE", path: "/users/amelia/contacts/users/bruno", rpc: accountv1.RelationService_RemoveContact_FullMethodName, rule: "remove_contact",
			answer: &accountv1.RemoveContactResponse{OwnerUuid: amelia().GetUuid(), Friend: bruno()},
			want: `{"action":"delete",` + appJSON + `,"path":"/users/6c1f2e40-7a55-11ee-9c3b-0b6d2f1a9e77/contacts","uri":"` + base +
				`/users/6c1f2e40-7a55-11ee-9c3b-0b6d2f1a9e77/contacts","entities":[` + brunoJSON + `],` + timesJSON + `}`,
		},
		{
			name: "contacts", method: "GET", path: "/users/amelia/contacts/users", rpc: accountv1.RelationService_ListContacts_FullMethodName, rule: "list_contacts",
			answer: &accountv1.ListContactsResponse{Usernames: []string{"carla", "bruno"}},
			want:   `{"action":"get","uri":"` + base + `/users/amelia/contacts/users","entities":[],"data":["carla","bruno"],` + timesJSON + `,"count":2}`,
		},
		{
			name: "contacts with remarks", method: "GET", path: "/users/amelia/contacts/users?needReturnRemark=true&_v=1", rpc: accountv1.RelationService_ListContacts_FullMethodName, rule: "list_contacts",
			answer: &accountv1.ListContactsResponse{
				Usernames: []string{"carla", "bruno"}, Contacts: []*accountv1.Contact{{Username: "carla"}, {Username: "bruno", Remark: "Bro"}},
			},
			want: `{"action":"get","uri":"` + base + `/users/amelia/contacts/users","entities":[{"username":"carla","remark":""},{"username":"bruno","remark":"Bro"}],` +
				`"data":["carla","bruno"],` + timesJSON + `,"count":2}`,
		},
		{
			name: "page of contacts", method: "GET", path: "/users/amelia/contacts?needReturnRemark=true&limit=1&cursor=abc&_v=1",
			rpc: accountv1.RelationService_PageContacts_FullMethodName, rule: "page_contacts",
			asked:  &accountv1.PageContactsRequest{Org: "acme", App: "chat", OwnerUsername: "amelia", Limit: proto.Int32(1), Cursor: "abc"},
			answer: &accountv1.PageContactsResponse{Contacts: []*accountv1.Contact{{Username: "bruno", Remark: "Bro"}}, Cursor: "def"},
			want: `{"action":"get","uri":"` + base + `/users/amelia/contacts","entities":[],"data":{"contacts":[{"username":"bruno","remark":"Bro"}],"cursor":"def"},` +
				timesJSON + `,"count":1,"cursor":"def"}`,
		},
		{
			name: "contacts without remarks, server SDK", method: "GET", path: "/user/amelia/contacts", rpc: accountv1.RelationService_PageContacts_FullMethodName, rule: "page_contacts",
			answer: &accountv1.PageContactsResponse{Contacts: []*accountv1.Contact{{Username: "bruno", Remark: "Bro"}, {Username: "carla"}}},
			want: `{"action":"get","uri":"` + base + `/user/amelia/contacts","entities":[],"data":{"contacts":[{"username":"bruno","remark":"Bro"},{"username":"carla"}]},` +
				timesJSON + `,"count":2}`,
		},
		{
			name: "last page of contacts, server SDK", method: "GET", path: "/user/amelia/contacts?limit=50", rpc: accountv1.RelationService_PageContacts_FullMethodName, rule: "page_contacts",
			asked:  &accountv1.PageContactsRequest{Org: "acme", App: "chat", OwnerUsername: "amelia", Limit: proto.Int32(50)},
			answer: &accountv1.PageContactsResponse{},
			want:   `{"action":"get","uri":"` + base + `/user/amelia/contacts","entities":[],"data":{"contacts":[]},` + timesJSON + `,"count":0}`,
		},
		{
			name: "page of blocks", method: "GET", path: "/users/amelia/blocks/users?pageSize=1&cursor=abc", rpc: accountv1.RelationService_ListBlocks_FullMethodName, rule: "list_user_blocks",
			asked:  &accountv1.ListBlocksRequest{Org: "acme", App: "chat", OwnerUsername: "amelia", PageSize: proto.Int32(1), Cursor: "abc"},
			answer: &accountv1.ListBlocksResponse{Usernames: []string{"dario"}, Cursor: "def"},
			want:   `{"action":"get","uri":"` + base + `/users/amelia/blocks/users","entities":[],"data":["dario"],` + timesJSON + `,"count":1,"cursor":"def"}`,
		},
		{
			name: "contact remark", method: "PUT", path: "/users/amelia/contacts/users/bruno?resource=web_1", body: `{"remark":"Bro"}`,
			rpc: accountv1.RelationService_SetContactRemark_FullMethodName, rule: "set_contact_remark",
			asked: &accountv1.SetContactRemarkRequest{
				Org: "acme", App: "chat", OwnerUsername: "amelia", FriendUsername: "bruno", Remark: proto.String("Bro"),
			},
			answer: &accountv1.SetContactRemarkResponse{},
			want:   `{"status":"ok",` + okJSON("put", "/users/amelia/contacts/users/bruno")[1:],
		},
		{
			name: "contact remark, server SDK", method: "PUT", path: "/user/amelia/contacts/users/bruno", body: `{"remark":""}`,
			rpc: accountv1.RelationService_SetContactRemark_FullMethodName, rule: "set_contact_remark",
			asked:  &accountv1.SetContactRemarkRequest{Org: "acme", App: "chat", OwnerUsername: "amelia", FriendUsername: "bruno", Remark: proto.String("")},
			answer: &accountv1.SetContactRemarkResponse{},
			want:   `{"status":"ok",` + okJSON("put", "/user/amelia/contacts/users/bruno")[1:],
		},
		{
			name: "ask for friendship", method: "POST", path: "/users/amelia/contacts/apply?resource=web_1", body: `{"usernames":["bruno"],"reason":"hi"}`,
			rpc: accountv1.RelationService_RequestContacts_FullMethodName, rule: "request_contacts",
			asked:  &accountv1.RequestContactsRequest{Org: "acme", App: "chat", OwnerUsername: "amelia", Usernames: []string{"bruno"}, Reason: "hi"},
			answer: &accountv1.RequestContactsResponse{},
			want:   okJSON("post", "/users/amelia/contacts/apply"),
		},
		{
			name: "accept friendship", method: "POST", path: "/users/bruno/contacts/accept/users/amelia?resource=web_1",
			rpc: accountv1.RelationService_AcceptContact_FullMethodName, rule: "accept_contact",
			asked:  &accountv1.AcceptContactRequest{Org: "acme", App: "chat", OwnerUsername: "bruno", FriendUsername: "amelia", Resource: "web_1"},
			answer: &accountv1.AcceptContactResponse{},
			want:   okJSON("post", "/users/bruno/contacts/accept/users/amelia"),
		},
		{
			name: "decline friendship", method: "POST", path: "/users/bruno/contacts/decline/users/amelia?resource=web_1",
			rpc: accountv1.RelationService_DeclineContact_FullMethodName, rule: "decline_contact",
			asked:  &accountv1.DeclineContactRequest{Org: "acme", App: "chat", OwnerUsername: "bruno", FriendUsername: "amelia"},
			answer: &accountv1.DeclineContactResponse{},
			want:   okJSON("post", "/users/bruno/contacts/decline/users/amelia"),
		},
		{
			name: "block, client SDK", method: "POST", path: "/sdk/user/amelia/blocks?resource=web_1", body: `{"usernames":["dario"]}`,
			rpc: accountv1.RelationService_AddBlocks_FullMethodName, rule: "add_user_blocks",
			asked:  &accountv1.AddBlocksRequest{Org: "acme", App: "chat", OwnerUsername: "amelia", Usernames: []string{"dario"}},
			answer: &accountv1.AddBlocksResponse{Usernames: []string{"dario"}},
			want:   `{"action":"post",` + appJSON + `,"uri":"` + base + `","entities":[],"data":["dario"],` + timesJSON + `}`,
		},
		{
			name: "unblock, client SDK", method: "DELETE", path: "/sdk/user/amelia/blocks?resource=web_1", body: `{"usernames":["dario"]}`,
			rpc: accountv1.RelationService_RemoveBlocks_FullMethodName, rule: "remove_user_blocks",
			asked:  &accountv1.RemoveBlocksRequest{Org: "acme", App: "chat", OwnerUsername: "amelia", Usernames: []string{"dario"}},
			answer: &accountv1.RemoveBlocksResponse{Usernames: []string{"dario"}},
			want:   `{"action":"delete",` + appJSON + `,"uri":"` + base + `","entities":[],"data":["dario"],` + timesJSON + `}`,
		},
		{
			name: "end of a token", method: "GET", path: "/sdk/users/amelia/token/expires?_v=1", rpc: accountv1.TokenService_GetTokenExpiry_FullMethodName, rule: "get_token_expiry",
			answer: &accountv1.GetTokenExpiryResponse{ExpireTimestamp: 1700000000123},
			want:   `{"expire_timestamp":1700000000123}`,
		},
		{
			name: "own devices", method: "GET", path: "/users/amelia/resources?_v=1", rpc: presencev1.ConnectionService_ListConnections_FullMethodName, rule: "list_connections",
			asked: &presencev1.ListConnectionsRequest{Org: "acme", App: "chat", Username: "amelia"},
			answer: &presencev1.ListConnectionsResponse{Connections: []*presencev1.Connection{
				{Id: "c1", Gateway: "g1", User: "amelia", Resource: "web_1", Os: "web", Version: "4.21.1", Ip: "192.0.2.1", Since: 1},
			}},
			want: `{"action":"get","path":"/users/amelia/resources","uri":"` + base + `/users/amelia/resources","entities":[],"data":[{"res":"web_1","platform":"web"}],` + timesJSON + `,"count":1}`,
		},
		{
			name: "blocks", method: "GET", path: "/users/amelia/blocks/users", rpc: accountv1.RelationService_ListBlocks_FullMethodName, rule: "list_user_blocks",
			answer: &accountv1.ListBlocksResponse{},
			want:   `{"action":"get","uri":"` + base + `/users/amelia/blocks/users","entities":[],"data":[],` + timesJSON + `,"count":0}`,
		},
		{
			name: "block", method: "POST", path: "/users/amelia/blocks/users", body: `{"usernames":["dario","edda"]}`,
			rpc: accountv1.RelationService_AddBlocks_FullMethodName, rule: "add_user_blocks",
			asked:  &accountv1.AddBlocksRequest{Org: "acme", App: "chat", OwnerUsername: "amelia", Usernames: []string{"dario", "edda"}},
			answer: &accountv1.AddBlocksResponse{Usernames: []string{"dario", "edda"}},
			want:   `{"action":"post",` + appJSON + `,"uri":"` + base + `","entities":[],"data":["dario","edda"],` + timesJSON + `}`,
		},
		{
			name: "unblock", method: "DELETE", path: "/users/amelia/blocks/users/bruno", rpc: accountv1.RelationService_RemoveBlock_FullMethodName, rule: "remove_user_block",
			asked:  &accountv1.RemoveBlockRequest{Org: "acme", App: "chat", OwnerUsername: "amelia", BlockedUsername: "bruno"},
			answer: &accountv1.RemoveBlockResponse{OwnerUuid: amelia().GetUuid(), Unblocked: bruno()},
			want: `{"action":"delete",` + appJSON + `,"path":"/users/6c1f2e40-7a55-11ee-9c3b-0b6d2f1a9e77/blocks","uri":"` + base +
				`/users/6c1f2e40-7a55-11ee-9c3b-0b6d2f1a9e77/blocks","entities":[` + brunoJSON + `],` + timesJSON + `}`,
		},
		{
			name: "mute", method: "POST", path: "/mutes", body: `{"username":"dario","chat":600,"groupchat":-1}`,
			rpc: accountv1.MuteService_SetGlobalMute_FullMethodName, rule: "set_global_mute",
			asked:  &accountv1.SetGlobalMuteRequest{Org: "acme", App: "chat", Username: "dario", Chat: proto.Int64(600), Groupchat: proto.Int64(-1)},
			answer: &accountv1.SetGlobalMuteResponse{},
			want:   `{"path":"/mutes","uri":"` + base + `/mutes",` + appJSON + `,"action":"post","data":{"result":"ok"},` + timesJSON + `}`,
		},
		{
			name: "mute of one", method: "GET", path: "/mutes/dario", rpc: accountv1.MuteService_GetGlobalMute_FullMethodName, rule: "get_global_mute",
			asked:  &accountv1.GetGlobalMuteRequest{Org: "acme", App: "chat", Username: "dario"},
			answer: &accountv1.GetGlobalMuteResponse{Username: "dario", Chat: 590, Groupchat: -1, Unixtime: 1700002410},
			want: `{"path":"/mutes","uri":"` + base + `/mutes",` + appJSON +
				`,"action":"get","data":{"userid":"acme#chat_dario","chat":590,"groupchat":-1,"chatroom":0,"unixtime":1700002410},` + timesJSON + `}`,
		},
		{
			name: "mutes", method: "GET", path: "/mutes?pageNum=1&pageSize=10", rpc: accountv1.MuteService_ListGlobalMutes_FullMethodName, rule: "list_global_mutes",
			asked: &accountv1.ListGlobalMutesRequest{Org: "acme", App: "chat", PageNum: proto.Int32(1), PageSize: proto.Int32(10)},
			answer: &accountv1.ListGlobalMutesResponse{Unixtime: 1700002420, Mutes: []*accountv1.GlobalMute{
				{Username: "dario", Kind: "chat", Seconds: 580}, {Username: "dario", Kind: "groupchat", Seconds: -1}, {Username: "edda", Kind: "chatroom"},
			}},
			want: `{"path":"/mutes","uri":"` + base + `/mutes",` + appJSON +
				`,"action":"get","data":{"data":[{"username":"dario","chat":580},{"username":"dario","groupchat":-1},{"username":"edda","chatroom":0}],"unixtime":1700002420},` + timesJSON + `}`,
		},
		{
			name: "status", method: "GET", path: "/users/Amelia/status", rpc: presencev1.PresenceService_GetOnlineStatus_FullMethodName, rule: "get_user_online_status",
			asked:  &presencev1.GetOnlineStatusRequest{Org: "acme", App: "chat", Username: "Amelia"},
			answer: &presencev1.GetOnlineStatusResponse{},
			want:   `{"action":"get","uri":"` + base + `/users/Amelia/status","entities":[],"data":{"Amelia":"offline"},` + timesJSON + `,"count":0}`,
		},
		{
			name: "status of many", method: "POST", path: "/users/batch/status", body: `{"usernames":["Amelia","nobody"]}`,
			rpc: presencev1.PresenceService_BatchGetOnlineStatus_FullMethodName, rule: "get_users_online_status_batch",
			asked:  &presencev1.BatchGetOnlineStatusRequest{Org: "acme", App: "chat", Usernames: []string{"Amelia", "nobody"}},
			answer: &presencev1.BatchGetOnlineStatusResponse{Online: []bool{true, false}},
			want:   `{"action":"get batch user status","data":[{"Amelia":"online"},{"nobody":"offline"}],` + timesJSON + `}`,
		},
		{
			name: "force offline", method: "GET", path: "/users/amelia/disconnect", rpc: presencev1.PresenceService_DisconnectUser_FullMethodName, rule: "disconnect_user",
			asked:  &presencev1.DisconnectUserRequest{Org: "acme", App: "chat", Username: "amelia"},
			answer: &presencev1.DisconnectUserResponse{},
			want:   `{"action":"get","uri":"` + base + `/users/amelia/disconnect","entities":[],"data":{"result":true},` + timesJSON + `,"count":0}`,
		},
		{
			name: "force one device offline", method: "GET", path: "/users/amelia/disconnect/web_1", rpc: presencev1.PresenceService_DisconnectUser_FullMethodName, rule: "disconnect_user",
			asked:  &presencev1.DisconnectUserRequest{Org: "acme", App: "chat", Username: "amelia", Resource: "web_1"},
			answer: &presencev1.DisconnectUserResponse{},
			want:   `{"action":"get","uri":"` + base + `/users/amelia/disconnect/web_1","entities":[],"data":{"result":true},` + timesJSON + `,"count":0}`,
		},
		{
			name: "offline count", method: "GET", path: "/users/Amelia/offline_msg_count", rpc: messagingv1.MessagingService_GetOfflineMessageCount_FullMethodName, rule: "get_offline_message_count",
			asked:  &messagingv1.GetOfflineMessageCountRequest{Org: "acme", App: "chat", Username: "Amelia"},
			answer: &messagingv1.GetOfflineMessageCountResponse{Count: 4},
			want:   `{"action":"get","uri":"` + base + `/users/Amelia/offline_msg_count","entities":[],"data":{"Amelia":4},` + timesJSON + `,"count":0}`,
		},
		{
			name: "offline status", method: "GET", path: "/users/amelia/offline_msg_status/1029457500870543736",
			rpc: messagingv1.MessagingService_GetOfflineMessageStatus_FullMethodName, rule: "get_offline_message_status",
			asked:  &messagingv1.GetOfflineMessageStatusRequest{Org: "acme", App: "chat", Username: "amelia", MessageId: "1029457500870543736"},
			answer: &messagingv1.GetOfflineMessageStatusResponse{},
			want: `{"action":"get","uri":"` + base + `/users/amelia/offline_msg_status/1029457500870543736","entities":[],"data":{"1029457500870543736":"undelivered"},` +
				timesJSON + `,"count":0}`,
		},
		{
			name: "set presence", method: "POST", path: "/users/amelia/presence/web_1/101", body: `{"ext":"in a meeting"}`,
			rpc: presencev1.PresenceService_SetPresence_FullMethodName, rule: "set_presence",
			asked:  &presencev1.SetPresenceRequest{Org: "acme", App: "chat", Username: "amelia", Resource: "web_1", Status: "101", Ext: "in a meeting"},
			answer: &presencev1.SetPresenceResponse{},
			want:   `{"result":"ok"}`,
		},
		{
			name: "subscribe", method: "POST", path: "/users/amelia/presence/3600", body: `{"usernames":["bruno","carla"]}`,
			rpc: presencev1.PresenceService_SubscribePresence_FullMethodName, rule: "subscribe_presence",
			asked: &presencev1.SubscribePresenceRequest{Org: "acme", App: "chat", Username: "amelia", Expiry: "3600", Usernames: []string{"bruno", "carla"}},
			answer: &presencev1.SubscribePresenceResponse{Result: []*presencev1.Presence{
				{Uid: "bruno", LastTime: 1700002000, Expiry: 1700005600, Ext: "in a meeting", Status: map[string]string{"android_7f01": "1", "web_0c22": "0"}},
				{Uid: "carla", Expiry: 1700005600},
			}},
			want: `{"result":[{"uid":"bruno","last_time":"1700002000","expiry":"1700005600","ext":"in a meeting","status":{"android_7f01":"1","web_0c22":"0"}},
				{"uid":"carla","last_time":"0","expiry":"1700005600","ext":"","status":[]}]}`,
		},
		{
			name: "get presence", method: "POST", path: "/users/amelia/presence", body: `{"usernames":["bruno"]}`,
			rpc: presencev1.PresenceService_GetPresence_FullMethodName, rule: "get_presence_batch",
			answer: &presencev1.GetPresenceResponse{Result: []*presencev1.Presence{{Uid: "bruno", LastTime: 1700002000, Status: map[string]string{"android_7f01": "0"}}}},
			want:   `{"result":[{"uid":"bruno","last_time":"1700002000","ext":"","status":{"android_7f01":"0"}}]}`,
		},
		{
			name: "unsubscribe, bare array", method: "DELETE", path: "/users/amelia/presence", body: `["bruno","carla"]`,
			rpc: presencev1.PresenceService_UnsubscribePresence_FullMethodName, rule: "unsubscribe_presence",
			asked:  &presencev1.UnsubscribePresenceRequest{Org: "acme", App: "chat", Username: "amelia", Usernames: []string{"bruno", "carla"}},
			answer: &presencev1.UnsubscribePresenceResponse{},
			want:   `{"result":"ok"}`,
		},
		{
			name: "unsubscribe, users", method: "DELETE", path: "/users/amelia/presence", body: `{"users":["bruno"]}`,
			rpc: presencev1.PresenceService_UnsubscribePresence_FullMethodName, rule: "unsubscribe_presence",
			asked:  &presencev1.UnsubscribePresenceRequest{Org: "acme", App: "chat", Username: "amelia", Usernames: []string{"bruno"}},
			answer: &presencev1.UnsubscribePresenceResponse{},
			want:   `{"result":"ok"}`,
		},
		{
			name: "subscriptions", method: "GET", path: "/users/amelia/presence/sublist?pageNum=1&pageSize=100",
			rpc: presencev1.PresenceService_ListPresenceSubscriptions_FullMethodName, rule: "list_presence_subscriptions",
			asked: &presencev1.ListPresenceSubscriptionsRequest{Org: "acme", App: "chat", Username: "amelia", PageNum: proto.Int32(1), PageSize: proto.Int32(100)},
			answer: &presencev1.ListPresenceSubscriptionsResponse{Total: 2, Subscriptions: []*presencev1.PresenceSubscription{
				{Uid: "bruno", Expiry: 1700005600}, {Uid: "carla", Expiry: 1700005600},
			}},
			want: `{"result":{"totalnum":"2","sublist":[{"uid":"bruno","expiry":"1700005600"},{"uid":"carla","expiry":"1700005600"}]}}`,
		},
		{
			name: "send to users", method: "POST", path: "/messages/users",
			body: `{"from":"shop","to":["lena","Omar","LENA"],"type":"txt","body":{"msg":"<hi> \u00e9"},"ext":{"k": 1},"sync_device":true,"routetype":"ROUTE_ONLINE","msg_timestamp":"1700000000000"}`,
			rpc:  messagingv1.MessagingService_SendToUsers_FullMethodName, rule: "send_message_users", cost: 2,
			asked: &messagingv1.SendToUsersRequest{
				Org: "acme", App: "chat", From: proto.String("shop"), To: []string{"lena", "Omar", "LENA"}, Type: "txt",
				Body: []byte(`{"msg":"<hi> \u00e9"}`), Ext: []byte(`{"k": 1}`), SyncDevice: true, Routetype: "ROUTE_ONLINE", MsgTimestamp: 1700000000000,
			},
			answer: &messagingv1.SendToUsersResponse{Results: []*messagingv1.SendResult{{Target: "lena", MessageId: "1212345678901234567"}, {Target: "omar", MessageId: "1212345678901234568"}}},
			want: `{"path":"/messages/users","uri":"` + base + `/messages/users",` + appJSON +
				`,"action":"post","data":{"lena":"1212345678901234567","omar":"1212345678901234568"},` + timesJSON + `}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.answer(c.rpc, c.answer, nil)
			got := r.do(request{method: c.method, path: "/acme/chat" + c.path, body: c.body, header: map[string]string{"Host": "im.example.com"}})
			got.shows(t, c.want)

			r.mu.Lock()
			defer r.mu.Unlock()
			require.Len(t, r.calls, 1)
			require.Equal(t, c.rpc, r.calls[0].method)
			if c.asked != nil {
				require.True(t, proto.Equal(c.asked, r.calls[0].req), "asked %v", r.calls[0].req)
			}
			require.Len(t, r.checks, 1, "admitted exactly once")
			require.Equal(t, c.rule, r.checks[0].GetRule())
			require.Equal(t, max(1, c.cost), r.checks[0].GetCost())
			require.Equal(t, "acme", r.checks[0].GetOrg())
			require.Equal(t, "chat", r.checks[0].GetApp())
			require.Equal(t, "127.0.0.1", r.checks[0].GetIp())
		})
	}
}

// TestTokenExpiry asks when a token ends: the gateway passes on what it read in
// the token, whatever the caller says.
func TestTokenExpiry(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer(accountv1.TokenService_GetTokenExpiry_FullMethodName, &accountv1.GetTokenExpiryResponse{}, nil)
	ends := time.Now().Add(time.Hour).Truncate(time.Second)
	for name, expires := range map[string]time.Time{"an hour": ends, "never": {}} {
		raw := token.Sign(r.app.Keys[0], token.Claims{Kind: token.User, App: r.app.Number, User: "amelia", IssuedAt: time.Now(), ExpiresAt: expires})
		got := r.do(request{method: "GET", path: "/acme/chat/sdk/users/Amelia/token/expires?expires_at=7&expiresAt=7", token: raw})
		require.Equal(t, 200, got.status, "%s: %s", name, got.text)
		want := int64(0)
		if !expires.IsZero() {
			want = expires.UnixMilli()
		}
		require.Equal(t, want, last[*accountv1.GetTokenExpiryRequest](t, r.backend).GetExpiresAt(), name)
	}
}
