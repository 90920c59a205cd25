package routes

import (
	"cmp"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	tokens "github.com/chappe-im/chappe/pkg/token"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	"github.com/chappe-im/chappe/services/gateway/auth"
	"github.com/chappe-im/chappe/services/gateway/restjson"
)

var pathUsers = always("/users")

func accounts() []Route {
	return []Route{
		{
			Method: accountv1.UserService_RegisterUsers_FullMethodName,
			Rules:  []string{"register_user", "register_users_batch"}, Rule: registerRule,
			Policy: Open, Authorize: authorizeRegistration,
			Body: restjson.Body{Decode: decodeRegisterUsers, Schema: registerSchema},
			Answer: Answer{
				Action: Verb, App: true, Path: pathUsers, URI: OfPath,
				Entities: users((*accountv1.RegisterUsersResponse).GetUsers), Data: of(registerFailures),
			},
		},
		{
			Method: accountv1.TokenService_IssueToken_FullMethodName, Rules: []string{"get_token"},
			Policy: Open, Authorize: authorizeToken, Proves: provesForToken,
			Answer: Answer{Plain: of(tokenOf)},
		},
		{
			Method: accountv1.TokenService_GetTokenExpiry_FullMethodName, Unlisted: "get_token_expiry",
			Policy: AppOrSelf, Self: "username", Authorize: tellExpiry,
			Answer: Answer{Plain: of(func(r *accountv1.GetTokenExpiryResponse) tokenExpiry { return tokenExpiry{r.GetExpireTimestamp()} })},
		},
		{
			Method: accountv1.UserService_GetUser_FullMethodName, Rules: []string{"get_user"}, Policy: AppOnly,
			Answer: Answer{Action: Verb, Path: pathUsers, URI: Self, Entities: oneUser((*accountv1.GetUserResponse).GetUser), Count: one},
		},
		{
			Method: accountv1.UserService_ListUsers_FullMethodName, Rules: []string{"list_users"},
			Policy: AppOnly, Query: []string{"limit", "cursor", "ql"},
			Answer: Answer{
				Action: Verb, Params: true, Path: pathUsers, URI: OfPath, Entities: users((*accountv1.ListUsersResponse).GetUsers),
				Cursor: of((*accountv1.ListUsersResponse).GetCursor), Count: size((*accountv1.ListUsersResponse).GetUsers),
			},
		},
		{
			Method: accountv1.UserService_DeleteUser_FullMethodName, Rules: []string{"delete_user"}, Policy: AppOnly,
			Answer: Answer{Action: Verb, App: true, Path: pathUsers, URI: OfPath, Entities: oneUser((*accountv1.DeleteUserResponse).GetUser)},
		},
		{
			Method: accountv1.UserService_DeleteUsers_FullMethodName, Rules: []string{"delete_users_batch"},
			Policy: AppOnly, Query: []string{"limit", "cursor", "ql"},
			Answer: Answer{
				Action: Verb, App: true, Params: true, Path: pathUsers, URI: OfPath,
				Entities: users((*accountv1.DeleteUsersResponse).GetUsers), Cursor: of((*accountv1.DeleteUsersResponse).GetCursor),
			},
		},
		{
			Method: accountv1.UserService_ChangePassword_FullMethodName, Rules: []string{"change_password"},
			Policy: AppOrSelf, Self: "username", Authorize: authorizePassword, Proves: provesForPassword,
			Body:   restjson.Body{Aliases: map[string]string{"oldPassword": "oldpassword"}, Hidden: []string{"check_old"}},
			Answer: Answer{Action: "set user password"},
		},
		{
			Method: accountv1.UserService_DeactivateUser_FullMethodName, Rules: []string{"deactivate_user"}, Policy: AppOnly,
			Answer: Answer{Action: "Deactivate user", Entities: oneUser((*accountv1.DeactivateUserResponse).GetUser)},
		},
		{
			Method: accountv1.UserService_ActivateUser_FullMethodName, Rules: []string{"activate_user"}, Policy: AppOnly,
			Answer: Answer{Action: "activate user"},
		},
		{
			Method: accountv1.UserService_UpdatePushSettings_FullMethodName,
			Rules:  []string{"set_push_nickname", "set_push_display_style", "set_push_do_not_disturb"}, Rule: pushRule,
			Policy: AppOrSelf, Self: "username",
			Body:   pushBody(),
			Answer: Answer{Action: Verb, App: true, Path: pathUsers, URI: OfPath, Entities: oneUser((*accountv1.UpdatePushSettingsResponse).GetUser)},
		},
	}
}

// registerFailure is a user of a batch who was not registered.
type registerFailure struct {
	Username string `json:"username"`
	Reason   string `json:"registerUserFailReason"`
}

// registerFailures are there for batches, also when all went well.
func registerFailures(r *accountv1.RegisterUsersResponse) *[]registerFailure {
	if !r.GetBatch() {
		return nil
	}
	all := each(r.GetFailures(), func(f *accountv1.RegisterFailure) registerFailure {
		return registerFailure{f.GetUsername(), f.GetReason()}
	})
	return &all
}

// token is the answer to a login: of the app, or of a user.
type token struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int64  `json:"expires_in"`
	Application string `json:"application,omitempty"`
	User        *user  `json:"user,omitempty"`
}

func tokenOf(r *accountv1.IssueTokenResponse) token {
	t := token{AccessToken: r.GetAccessToken(), ExpiresIn: r.GetExpiresIn()}
	if r.GetUser() == nil {
		t.Application = r.GetApplication()
		return t
	}
	u := userOf(r.GetUser())
	t.User = &u
	return t
}

type tokenExpiry struct {
	Expires int64 `json:"expire_timestamp"`
}

func registerRule(req proto.Message) string {
	if r, ok := req.(*accountv1.RegisterUsersRequest); ok && r.GetBatch() {
		return "register_users_batch"
	}
	return "register_user"
}

// pushRule names the setting that comes first: one call may hold several, and
// all of them draw on one allowance.
func pushRule(req proto.Message) string {
	r, ok := req.(*accountv1.UpdatePushSettingsRequest)
	switch {
	case !ok || r.Nickname != nil:
		return "set_push_nickname"
	case r.NotificationDisplayStyle != nil:
		return "set_push_display_style"
	case r.NotificationNoDisturbing != nil || r.NotificationNoDisturbingStart != nil || r.NotificationNoDisturbingEnd != nil:
		return "set_push_do_not_disturb"
	default:
		return "set_push_nickname"
	}
}

const registerSchema = `{"oneOf":[
	{"$ref":"#/components/schemas/NewUser"},
	{"type":"array","items":{"$ref":"#/components/schemas/NewUser"}}
]}`

// decodeRegisterUsers takes an object for one user and an array for a batch. A
// call without a body registers one user who lacks everything.
func decodeRegisterUsers(body []byte, _ bool, req proto.Message) error {
	m, _ := req.(*accountv1.RegisterUsersRequest)
	raw, err := restjson.Parse(body)
	if err != nil {
		return err
	}
	add := func(raw []byte) error {
		u := &accountv1.NewUser{}
		m.Users = append(m.Users, u)
		return restjson.Unmarshal(raw, u)
	}
	a, isArray := restjson.NewArray(raw)
	switch {
	case len(raw) == 0:
		return add([]byte("{}"))
	case !isArray:
		return add(raw)
	}
	m.Batch = true
	for {
		element, ok := a.Next()
		if !ok {
			return nil
		}
		if err := add(element); err != nil {
			return err
		}
	}
}

// authorizeRegistration lets the app register anybody, and everybody one user
// while the app's registration is open.
func authorizeRegistration(a *Access, req proto.Message) error {
	r, ok := req.(*accountv1.RegisterUsersRequest)
	if !ok || a.Principal.IsApp() {
		return nil
	}
	switch {
	case !a.App.Open():
		return errs.RegistrationClosed()
	case !r.GetBatch():
		r.Anonymous = true
		return nil
	case a.TokenError != nil:
		return a.TokenError
	default:
		return auth.NotAllowed()
	}
}

// authorizeToken asks for an app token where a user's is given without a
// password. Other grants prove the caller themselves.
func authorizeToken(a *Access, req proto.Message) error {
	r, ok := req.(*accountv1.IssueTokenRequest)
	switch {
	case !ok || r.GetGrantType() != "inherit" || a.Principal.IsApp():
		return nil
	case a.TokenError != nil:
		return a.TokenError
	default:
		return tokens.Error(tokens.ErrOtherApp) // a user's token, which proves nothing here
	}
}

// provesForToken finds the credential of a token call. The app's own back end
// has shown a token of the app, with which it could get any user's: it has
// nothing to guess at.
func provesForToken(a *Access, req proto.Message) (Proof, bool) {
	r, ok := req.(*accountv1.IssueTokenRequest)
	switch {
	case !ok || a.Principal.IsApp():
		return Proof{}, false
	case r.GetGrantType() == "password":
		return Proof{User: cmp.Or(ident.FoldUser(r.GetUsername()), "?")}, true
	default:
		return Proof{}, true
	}
}

// provesForPassword finds the old password that users show to change it.
func provesForPassword(_ *Access, req proto.Message) (Proof, bool) {
	r, ok := req.(*accountv1.ChangePasswordRequest)
	if !ok || !r.GetCheckOld() {
		return Proof{}, false
	}
	return Proof{User: ident.FoldUser(r.GetUsername()), Changes: true}, true
}

// authorizePassword has users prove that they know their old password.
func authorizePassword(a *Access, req proto.Message) error {
	if r, ok := req.(*accountv1.ChangePasswordRequest); ok {
		r.CheckOld = !a.Principal.IsApp()
	}
	return nil
}

// tellExpiry passes on what only the gateway knows: the token.
func tellExpiry(a *Access, req proto.Message) error {
	if r, ok := req.(*accountv1.GetTokenExpiryRequest); ok && !a.Principal.ExpiresAt.IsZero() {
		r.ExpiresAt = a.Principal.ExpiresAt.UnixMilli()
	}
	return nil
}
