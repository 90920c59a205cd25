package messaging

import (
	"context"
	"strconv"

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

// sendToUsers checks a send and commits it. paced says that its deliveries
// count against the app's downstream budget.
func (s *Service) sendToUsers(ctx context.Context, req *messagingv1.SendToUsersRequest, paced bool) (*messagingv1.SendToUsersResponse, error) {
	app, ok := s.deps.Apps.App(req.GetOrg(), req.GetApp())
	if !ok {
		return nil, errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	from, err := sender(req.From)
	if err != nil {
		return nil, err
	}
	targets, err := distinctTargets(req.GetTo())
	if err != nil {
		return nil, err
	}
	if r := req.GetRoutetype(); r != "" && r != routeOnline {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	if req.GetMsgTimestamp() < 0 {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	if req.Ext != nil && !gjson.ParseBytes(req.GetExt()).IsObject() {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	m, err := content.FromREST(busv1.Kind_KIND_USER, req.GetType(), req.GetBody(), req.GetExt())
	if err != nil {
		return nil, err
	}
	if err := checkSize(app, m); err != nil {
		return nil, err
	}

	now := s.deps.Now()
	if from != names.AdminUser {
		who, err := s.recipients.get(ctx, app.Key, []string{from}, now)
		if err != nil {
			return nil, err
		}
		if who[0].mutedAt(now) {
			return nil, errs.Forbidden("user " + from + " is muted")
		}
	}
	to, err := s.recipients.get(ctx, app.Key, targets, now)
	if err != nil {
		return nil, err
	}
	timestamp := req.GetMsgTimestamp()
	if timestamp == 0 {
		timestamp = now.UnixMilli()
	}
	d := draft{
		app: app.Key,
		record: &busv1.LogRecord{
			App: app.Key, Kind: busv1.Kind_KIND_USER, Type: m.Type, From: from, Timestamp: timestamp, Body: m.Body,
			OnlineOnly: req.GetRoutetype() == routeOnline, SyncSender: req.GetSyncDevice(), Paced: paced,
		},
		targets: make([]draftTarget, len(targets)),
	}
	for i, user := range targets {
		d.targets[i] = draftTarget{to: user, drop: !to[i].exists || to[i].blocks(from)}
	}
	if err := s.commit(ctx, &d); err != nil {
		return nil, err
	}
	s.metrics.accepted.WithLabelValues("server").Add(float64(len(targets)))

	resp := &messagingv1.SendToUsersResponse{Results: make([]*messagingv1.SendResult, len(targets))}
	results := make([]messagingv1.SendResult, len(targets))
	for i := range d.targets {
		r := &results[i]
		r.Target, r.MessageId = d.targets[i].to, strconv.FormatInt(d.targets[i].id, 10)
		resp.Results[i] = r
	}
	return resp, nil
}

// sender gives the folded sender: "admin" when none is named.
func sender(from *string) (string, error) {
	if from == nil {
		return names.AdminUser, nil
	}
	if *from == "" {
		return "", errs.Invalid("from can't be empty")
	}
	if !names.ValidUser(*from) {
		return "", errs.Invalid(errs.MessageInvalidRequest)
	}
	return names.FoldUser(*from), nil
}

// distinctTargets folds the targets and drops repetitions, keeping the order.
func distinctTargets(to []string) ([]string, error) {
	if len(to) == 0 || len(to) > maxUserTargets {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	if len(to) == 1 {
		if to[0] == "" || len(to[0]) > names.MaxUserIDBytes {
			return nil, errs.Invalid(errs.MessageInvalidRequest)
		}
		return []string{names.FoldUser(to[0])}, nil
	}
	out := make([]string, 0, len(to))
	seen := make(map[string]struct{}, len(to))
	for _, t := range to {
		if t == "" || len(t) > names.MaxUserIDBytes {
			return nil, errs.Invalid(errs.MessageInvalidRequest)
		}
		t = names.FoldUser(t)
		if _, ok := seen[t]; ok {
			continue
		}
		seen[t] = struct{}{}
		out = append(out, t)
	}
	return out, nil
}

// checkSize holds a message against the tier's limit for its type. Media
// messages carry the address of a file, whose own size the upload limits; what
// surrounds it may be as long as a text.
func checkSize(app *catalog.App, m content.Message) error {
	if m.Size > content.MaxBytes {
		return errs.Invalid("message is too large")
	}
	if limit := textLimit(app, m.Type); limit >= 0 && int64(m.Size) > limit {
		return errs.TooLarge()
	}
	return nil
}
