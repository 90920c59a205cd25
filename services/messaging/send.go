package messaging

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/content"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/names"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

// maxUserTargets bounds the targets of one call (wire contract, targets per
// call).
const maxUserTargets = 600

// routeOnline is the routetype of messages that nobody gets later.
const routeOnline = "ROUTE_ONLINE"

// userSend is a checked send to users on its way to the log.
type userSend struct {
	app        *catalog.App
	from       string
	targets    []string // folded, each once
	content    content.Message
	onlineOnly bool
	syncSender bool
	// timestamp is in Unix milliseconds; 0 means now.
	timestamp int64
	// paced says that the deliveries count against the app's downstream budget.
	paced bool
}

// sendToUsers checks a send and commits it. paced says that its deliveries
// count against the app's downstream budget.
func (s *Service) sendToUsers(ctx context.Context, req *messagingv1.SendToUsersRequest, paced bool) (*messagingv1.SendToUsersResponse, error) {
	app, ok := s.deps.Apps.App(req.GetOrg(), req.GetApp())
	if !ok {
		return nil, errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	if err := checkSend(req); err != nil {
		return nil, err
	}
	from, ok := sender(req.From)
	if !ok {
		return nil, errs.MessageRefused("param from is illegal")
	}
	m, err := content.FromREST(busv1.Kind_KIND_USER, req.GetType(), req.GetBody(), req.GetExt())
	if err != nil {
		return nil, err
	}
	results, err := s.commitUserSend(ctx, userSend{
		app: app, from: from, targets: distinctTargets(req.GetTo()), content: m, onlineOnly: req.GetRoutetype() == routeOnline,
		syncSender: req.GetSyncDevice(), timestamp: req.GetMsgTimestamp(), paced: paced,
	})
	if err != nil {
		return nil, err
	}
	return &messagingv1.SendToUsersResponse{Results: results}, nil
}

// commitUserSend checks the size and, if the app wants it, the sender, and
// commits the message to every target. Targets that do not exist get an ID and
// no message.
func (s *Service) commitUserSend(ctx context.Context, u userSend) ([]*messagingv1.SendResult, error) {
	now := s.deps.Now()
	if err := s.allowSend(ctx, u.app, u.from, u.content, now); err != nil {
		return nil, err
	}
	to, err := s.recipients.get(ctx, u.app.Key, u.targets, now)
	if err != nil {
		return nil, err
	}
	if u.timestamp == 0 {
		u.timestamp = now.UnixMilli()
	}
	d := draft{
		app: u.app.Key,
		record: &busv1.LogRecord{
			App: u.app.Key, Kind: busv1.Kind_KIND_USER, Type: u.content.Type, From: u.from, Timestamp: u.timestamp,
			Body: u.content.Body, OnlineOnly: u.onlineOnly, SyncSender: u.syncSender, Paced: u.paced,
		},
		targets: make([]draftTarget, len(u.targets)),
	}
	for i, user := range u.targets {
		d.targets[i] = draftTarget{to: user, drop: !to[i].exists}
	}
	if err := s.commit(ctx, &d); err != nil {
		return nil, err
	}
	s.metrics.accepted.WithLabelValues("server").Add(float64(len(u.targets)))

	out := make([]*messagingv1.SendResult, len(u.targets))
	results := make([]messagingv1.SendResult, len(u.targets))
	for i := range d.targets {
		r := &results[i]
		r.Target, r.MessageId = d.targets[i].to, strconv.FormatInt(d.targets[i].id, 10)
		out[i] = r
	}
	return out, nil
}

// allowSend refuses a message that is too large and, in apps whose settings
// say so, one whose sender is globally muted.
func (s *Service) allowSend(ctx context.Context, app *catalog.App, from string, m content.Message, now time.Time) error {
	if !fits(app, m) {
		return errs.MessageRefused("message is too large").WithCode(errs.CodeMessageTooLong)
	}
	if !app.Settings.RESTSendChecks || from == names.AdminUser {
		return nil
	}
	who, err := s.recipients.get(ctx, app.Key, []string{from}, now)
	if err != nil {
		return err
	}
	if who[0].mutedAt(now) {
		return errs.Forbidden("user " + from + " is muted")
	}
	return nil
}

// checkSend checks what the wire contract has texts for, in its order.
func checkSend(req *messagingv1.SendToUsersRequest) error {
	body := gjson.ParseBytes(req.GetBody())
	switch {
	case req.From != nil && req.GetFrom() == "":
		return errs.MessageRefused("param from can't be empty").WithCode(errs.CodeFromEmpty)
	case len(req.GetTo()) == 0, anyEmpty(req.GetTo()):
		return errs.MessageRefused("param to can't be empty").WithCode(errs.CodeToEmpty)
	case req.GetType() == "":
		return errs.MessageRefused("param type can't be empty")
	case body.Type == gjson.Null, body.IsObject() && empty(body):
		return errs.MessageRefused("param body can't be empty").WithCode(errs.CodeBodyEmpty)
	case req.Ext != nil && !gjson.ParseBytes(req.GetExt()).IsObject():
		return errs.MessageRefused("param ext must be JSONObject")
	case len(req.GetTo()) > maxUserTargets:
		return errs.MessageRefused("params to's size can't exceed limit " + strconv.Itoa(maxUserTargets))
	case req.GetRoutetype() != "" && req.GetRoutetype() != routeOnline:
		return errs.MessageRefused("param routetype is illegal")
	case req.GetMsgTimestamp() < 0:
		return errs.MessageRefused("param msg_timestamp is illegal")
	default:
		return nil
	}
}

// anyEmpty reports whether a target has no name.
func anyEmpty(targets []string) bool { return slices.Contains(targets, "") }

// empty reports whether an object has no fields.
func empty(object gjson.Result) bool {
	none := true
	object.ForEach(func(_, _ gjson.Result) bool {
		none = false
		return false
	})
	return none
}

// sender returns the folded sender, "admin" when none is named; ok is false if
// no user can have the name.
func sender(from *string) (folded string, ok bool) {
	if from == nil {
		return names.AdminUser, true
	}
	return names.FoldUser(*from), names.ValidUser(*from)
}

// distinctTargets folds the targets and drops repetitions, keeping the order.
func distinctTargets(to []string) []string {
	if len(to) == 1 {
		return []string{names.FoldUser(to[0])}
	}
	out := make([]string, 0, len(to))
	seen := make(map[string]struct{}, len(to))
	for _, t := range to {
		t = names.FoldUser(t)
		if _, ok := seen[t]; ok {
			continue
		}
		seen[t] = struct{}{}
		out = append(out, t)
	}
	return out
}

// fits reports whether a message is within the tier's limit for its type.
func fits(app *catalog.App, m content.Message) bool {
	limit := textLimit(app, m.Type)
	return limit < 0 || int64(m.Size) <= limit
}
