package session

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/msync"
	"github.com/chappe-im/chappe/pkg/obs"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
	"github.com/chappe-im/chappe/services/gateway/auth"
)

// Reasons of refused logins, which devices compare letter by letter.
const (
	reasonWrongToken   = "Sorry, token or password does not match login info"
	reasonTokenExpired = "Sorry, token expired"
	reasonNoUser       = "Sorry, user not found"
	reasonOnlineLimit  = "Sorry, the app online count limit"
)

// tokenPrefix marks a token in the field that once held passwords.
const tokenPrefix = "$t$"

// loginRefusal is why a login fails. Without code the connection is closed
// without an answer, which makes a device try again.
type loginRefusal struct {
	code   msyncv1.Status_ErrorCode
	reason string
	result string // label of the metric
}

// login answers a PROVISION.
func (c *conn) login(frame, payload []byte) {
	var m msyncv1.MSync
	var p msyncv1.Provision
	if proto.Unmarshal(frame, &m) != nil || proto.Unmarshal(payload, &p) != nil {
		c.shutdown(closeInvalidData, "malformed frame")
		return
	}
	select {
	case c.srv.logins <- struct{}{}:
		defer func() { <-c.srv.logins }()
	case <-c.srv.ctx.Done():
		return
	}
	if refused := c.enter(&m, &p); refused != nil {
		c.srv.metrics.logins.WithLabelValues(refused.result).Inc()
		if refused.code == msyncv1.Status_OK {
			c.shutdown(closeTryLater, "try again later")
			return
		}
		c.answerLogin(refused.code, refused.reason)
		c.shutdown(closeNormal, "login refused")
		return
	}
	soon(&c.checkAt, c.srv.now()+checkInterval.Milliseconds()+jitter(checkInterval/4))
	c.fresh = true
	c.loggedIn.Store(true)
	c.answerLogin(msyncv1.Status_OK, "")
	c.srv.opener.add(c)
	c.srv.metrics.logins.WithLabelValues("ok").Inc()
}

// enter does all that a login takes; nil means that the device is logged in.
func (c *conn) enter(m *msyncv1.MSync, p *msyncv1.Provision) *loginRefusal {
	wrong := func(reason string) *loginRefusal {
		return &loginRefusal{msyncv1.Status_WRONG_PARAMETER, reason, "wrong_parameter"}
	}
	var ok bool
	c.user.App = ident.AppKey(m.GetGuid().GetAppKey())
	if c.org, c.app, ok = c.user.App.Split(); !ok {
		return wrong("app key is not of the form org#app")
	}
	name := ident.FoldUser(m.GetGuid().GetName())
	if !name.Valid() {
		return wrong("user ID is not legal")
	}
	c.resource = p.GetResource()
	if c.resource == "" {
		c.resource = m.GetGuid().GetClientResource()
	}
	if c.resource == "" {
		c.resource = "chappe_" + uuid.NewString()
	}
	if !ident.ValidResource(c.resource) {
		return wrong("resource is too long")
	}
	c.sessionID, c.deviceUUID = p.GetSessionId(), p.GetDeviceUuid()

	token := loginToken(m, p)
	if token == "" {
		return &loginRefusal{msyncv1.Status_FAIL, reasonWrongToken, "wrong_token"}
	}
	ctx, cancel := c.srv.callContext()
	defer cancel()
	who, err := c.srv.deps.Auth.Verify(ctx, c.org, c.app, token)
	if err != nil {
		return c.refusedBecause(err)
	}
	if who.Kind != auth.User || who.User != name {
		return &loginRefusal{msyncv1.Status_FAIL, reasonWrongToken, "wrong_token"}
	}
	c.user.ID, c.keyID = who.User, who.KeyID
	if !who.ExpiresAt.IsZero() {
		c.expires = who.ExpiresAt.UnixMilli()
	}

	// The subscription begins before the archive is asked what is unread, which
	// is after the answer: what is acknowledged in between arrives as a push. The
	// older connection goes before presence is told, which would have it thrown
	// out.
	old, err := c.subscribe(userSubject(c.user))
	if err != nil {
		return c.refusedBecause(err)
	}
	if old != nil {
		old.replacedBy(c)
	}
	if err := c.srv.deps.NATS.Flush(ctx); err != nil {
		return c.refusedBecause(err)
	}
	c.registered = true // even a failed call may have entered it
	c.os, c.version = osOf(p, c.resource), strings.Clone(p.GetVersion())
	if c.replaced, err = c.announce(ctx); err != nil {
		return c.refusedBecause(err)
	}
	return nil
}

// refusedBecause turns an error into a refusal.
func (c *conn) refusedBecause(err error) *loginRefusal {
	e := errs.From(err)
	switch e.Code {
	case codes.Unauthenticated:
		if strings.Contains(e.Message, "expired") {
			return &loginRefusal{msyncv1.Status_FAIL, reasonTokenExpired, "token_expired"}
		}
		return &loginRefusal{msyncv1.Status_FAIL, reasonWrongToken, "wrong_token"}
	case codes.NotFound:
		if e.Reason == errs.ReasonAppNotFound {
			return &loginRefusal{msyncv1.Status_WRONG_PARAMETER, "app not found", "app_not_found"}
		}
		return &loginRefusal{msyncv1.Status_FAIL, reasonNoUser, "user_not_found"}
	case codes.PermissionDenied:
		return &loginRefusal{msyncv1.Status_IM_FORBIDDEN, e.Message, "forbidden"}
	case codes.ResourceExhausted:
		if e.Reason == errs.ReasonQuota {
			return &loginRefusal{msyncv1.Status_PERMISSION_DENIED, reasonOnlineLimit, "online_limit"}
		}
	case codes.InvalidArgument:
		return &loginRefusal{msyncv1.Status_FAIL, reasonWrongToken, "wrong_token"}
	}
	c.srv.logger.Warn("login failed for now", obs.KeyApp, c.user.App, obs.KeyUser, c.user.ID, obs.KeyError, err)
	return &loginRefusal{result: "failed"}
}

// answerLogin sends the answer to PROVISION.
func (c *conn) answerLogin(code msyncv1.Status_ErrorCode, reason string) {
	answer := &msyncv1.Provision{Status: &msyncv1.Status{ErrorCode: code.Enum()}, Resource: proto.String(c.resource)}
	if reason != "" {
		answer.Status.Reason = proto.String(reason)
	}
	if code == msyncv1.Status_OK && c.expires != 0 {
		// In spite of its name this is a time: Unix milliseconds.
		answer.AuthToken = proto.String(`{"expires_in":` + strconv.FormatInt(c.expires, 10) + `}`)
	}
	b, err := proto.Marshal(answer)
	if err != nil {
		c.srv.logger.Error("login was not answered", obs.KeyError, err)
		c.shutdown(closeTryLater, "try again later")
		return
	}
	c.send(msync.AppendFrame(nil, msyncv1.MSync_PROVISION, b))
}

// loginToken finds the token in the places where devices put it.
func loginToken(m *msyncv1.MSync, p *msyncv1.Provision) string {
	for _, s := range [...]string{m.GetAuth(), p.GetAuth()} {
		if token, ok := strings.CutPrefix(s, tokenPrefix); ok {
			return token
		}
	}
	var wrapped struct {
		Token string `json:"token"`
	}
	if json.Unmarshal([]byte(p.GetAuthToken()), &wrapped) == nil && wrapped.Token != "" {
		return strings.TrimPrefix(wrapped.Token, tokenPrefix)
	}
	if m.GetAuth() != "" {
		return m.GetAuth()
	}
	return p.GetAuth()
}

func osOf(p *msyncv1.Provision, resource string) string {
	switch {
	case p.OsType == nil:
		return "other"
	case p.GetOsType() == msyncv1.Provision_OS_IOS:
		return "ios"
	case p.GetOsType() == msyncv1.Provision_OS_ANDROID:
		return "android"
	case p.GetDeviceName() == "webim" || strings.HasPrefix(resource, "webim"):
		return "web"
	}
	return "other"
}
