package routes

import (
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/token"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	"github.com/chappe-im/chappe/services/gateway/auth"
)

const pathUsers = "/users"

func accounts() Table {
	t := make(Table)
	add(t, Route{
		Method: accountv1.UserService_RegisterUsers_FullMethodName,
		Rules:  []string{"register_user", "register_users_batch"}, Rule: registerRule,
		Policy: Open, Authorize: authorizeRegistration,
	}, func(e *Envelope, _ *accountv1.RegisterUsersRequest, resp *accountv1.RegisterUsersResponse) {
		e.action()
		e.app()
		e.at(pathUsers)
		e.users(resp.GetUsers()...)
		if resp.GetBatch() {
			e.begin("data", '[')
			for i, f := range resp.GetFailures() {
				e.comma(i)
				e.Open()
				e.str("username", f.GetUsername())
				e.str("registerUserFailReason", f.GetReason())
				e.Close()
			}
			e.end(']')
		}
		e.times()
	})
	add(t, Route{
		Method: accountv1.TokenService_IssueToken_FullMethodName, Rules: []string{"get_token"},
		Policy: Open, Authorize: authorizeToken,
	}, func(e *Envelope, _ *accountv1.IssueTokenRequest, resp *accountv1.IssueTokenResponse) {
		e.str("access_token", resp.GetAccessToken())
		e.int("expires_in", resp.GetExpiresIn())
		if resp.GetUser() == nil {
			e.str("application", resp.GetApplication())
			return
		}
		e.name("user")
		e.user(resp.GetUser())
	})
	add(t, Route{
		Method: accountv1.TokenService_GetTokenExpiry_FullMethodName, Unlisted: "get_token_expiry",
		Policy: AppOrSelf, Self: "username", Authorize: tellExpiry,
	}, func(e *Envelope, _ *accountv1.GetTokenExpiryRequest, resp *accountv1.GetTokenExpiryResponse) {
		e.int("expire_timestamp", resp.GetExpireTimestamp())
	})
	add(t, Route{
		Method: accountv1.UserService_GetUser_FullMethodName, Rules: []string{"get_user"}, Policy: AppOnly,
	}, func(e *Envelope, _ *accountv1.GetUserRequest, resp *accountv1.GetUserResponse) {
		e.action()
		e.str("path", pathUsers)
		e.selfURI()
		e.users(resp.GetUser())
		e.times()
		e.int("count", 1)
	})
	add(t, Route{
		Method: accountv1.UserService_ListUsers_FullMethodName, Rules: []string{"list_users"},
		Policy: AppOnly, Query: []string{"limit", "cursor", "ql"},
	}, func(e *Envelope, _ *accountv1.ListUsersRequest, resp *accountv1.ListUsersResponse) {
		e.action()
		e.params()
		e.at(pathUsers)
		e.users(resp.GetUsers()...)
		e.times()
		e.cursor(resp.GetCursor())
		e.int("count", int64(len(resp.GetUsers())))
	})
	add(t, Route{
		Method: accountv1.UserService_DeleteUser_FullMethodName, Rules: []string{"delete_user"}, Policy: AppOnly,
	}, func(e *Envelope, _ *accountv1.DeleteUserRequest, resp *accountv1.DeleteUserResponse) {
		e.action()
		e.app()
		e.at(pathUsers)
		e.users(resp.GetUser())
		e.times()
	})
	add(t, Route{
		Method: accountv1.UserService_DeleteUsers_FullMethodName, Rules: []string{"delete_users_batch"},
		Policy: AppOnly, Query: []string{"limit", "cursor", "ql"},
	}, func(e *Envelope, _ *accountv1.DeleteUsersRequest, resp *accountv1.DeleteUsersResponse) {
		e.action()
		e.app()
		e.params()
		e.at(pathUsers)
		e.users(resp.GetUsers()...)
		e.times()
		e.cursor(resp.GetCursor())
	})
	add(t, Route{
		Method: accountv1.UserService_ChangePassword_FullMethodName, Rules: []string{"change_password"},
		Policy: AppOrSelf, Self: "username", Authorize: authorizePassword,
	}, func(e *Envelope, _ *accountv1.ChangePasswordRequest, _ *accountv1.ChangePasswordResponse) {
		e.raw("action", `"set user password"`)
		e.times()
	})
	add(t, Route{
		Method: accountv1.UserService_DeactivateUser_FullMethodName, Rules: []string{"deactivate_user"}, Policy: AppOnly,
	}, func(e *Envelope, _ *accountv1.DeactivateUserRequest, resp *accountv1.DeactivateUserResponse) {
		e.raw("action", `"Deactivate user"`)
		e.users(resp.GetUser())
		e.times()
	})
	add(t, Route{
		Method: accountv1.UserService_ActivateUser_FullMethodName, Rules: []string{"activate_user"}, Policy: AppOnly,
	}, func(e *Envelope, _ *accountv1.ActivateUserRequest, _ *accountv1.ActivateUserResponse) {
		e.raw("action", `"activate user"`)
		e.times()
	})
	add(t, Route{
		Method: accountv1.UserService_UpdatePushSettings_FullMethodName,
		Rules:  []string{"set_push_nickname", "set_push_display_style", "set_push_do_not_disturb"}, Rule: pushRule,
		Policy: AppOrSelf, Self: "username",
	}, func(e *Envelope, _ *accountv1.UpdatePushSettingsRequest, resp *accountv1.UpdatePushSettingsResponse) {
		e.action()
		e.app()
		e.at(pathUsers)
		e.users(resp.GetUser())
		e.times()
	})
	return t
}

// cursor is there only while there is a further page.
func (e *Envelope) cursor(cursor string) {
	if cursor != "" {
		e.str("cursor", cursor)
	}
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
		return token.Error(token.ErrOtherApp) // a user's token, which proves nothing here
	}
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
