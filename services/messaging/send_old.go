package messaging

import (
	"context"
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/content"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	"github.com/chappe-im/chappe/services/messaging/partition"
)

// Kinds of targets of the old call, by their words in requests.
const (
	targetUsers  = "users"
	targetGroups = "chatgroups"
	targetRooms  = "chatrooms"
)

// maxOldTargets bounds the targets of one old call: as many deliveries as the
// wire contract has fall due in a second.
const maxOldTargets = 2000

// SendMessage implements messagingv1.MessagingServiceServer. It checks a send in
// the old form and commits it.
func (s *Service) SendMessage(ctx context.Context, req *messagingv1.SendMessageRequest) (*messagingv1.SendMessageResponse, error) {
	app, ok := s.deps.Apps.App(req.GetOrg(), req.GetApp())
	if !ok {
		return nil, errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	kind, err := checkOldSend(req)
	if err != nil {
		return nil, err
	}
	from, ok := sender(req.From)
	if !ok {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	ext := req.GetExt()
	if gjson.ParseBytes(ext).Type == gjson.Null {
		ext = nil
	}
	msg, _ := content.Normal(req.GetMsg()) // what is no JSON has no type
	m, err := content.FromREST(kind, gjson.GetBytes(msg, "type").Str, msg, ext)
	switch {
	case errs.Is(err, errs.ReasonMessageSend):
		// The old call does not name the field.
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	case err != nil:
		return nil, err
	}
	if kind != busv1.Kind_KIND_USER {
		return s.sendNowhere(ctx, app, req.GetTarget(), from, m)
	}
	results, err := s.commitUserSend(ctx, userSend{
		app: app, from: from, targets: distinctTargets(req.GetTarget()), content: m, onlineOnly: req.GetRoutetype() == routeOnline,
		syncSender: req.GetSyncDevice(), paced: fromREST(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &messagingv1.SendMessageResponse{Results: results}, nil
}

// checkOldSend checks what is particular to the old form and returns the kind
// of its targets.
func checkOldSend(req *messagingv1.SendMessageRequest) (busv1.Kind, error) {
	if req.From != nil && req.GetFrom() == "" {
		return 0, errs.Invalid("from can't be empty")
	}
	kind := map[string]busv1.Kind{
		targetUsers: busv1.Kind_KIND_USER, targetGroups: busv1.Kind_KIND_GROUP, targetRooms: busv1.Kind_KIND_ROOM,
	}[req.GetTargetType()]
	msg := gjson.ParseBytes(req.GetMsg())
	switch {
	case kind == busv1.Kind_KIND_UNSPECIFIED:
		return 0, errs.Invalid("target_type can only be 'users' or 'chatgroups' or 'chatrooms'")
	case len(req.GetTarget()) == 0, len(req.GetTarget()) > maxOldTargets, anyEmpty(req.GetTarget()),
		!msg.IsObject(), empty(msg),
		req.GetRoutetype() != "" && req.GetRoutetype() != routeOnline:
		return 0, errs.Invalid(errs.MessageInvalidRequest)
	}
	return kind, nil
}

// sendNowhere answers a send to groups or rooms. There are none, and what goes
// to one that does not exist gets an ID and no message.
func (s *Service) sendNowhere(ctx context.Context, app *catalog.App, targets []string, from ident.UserID, m content.Message) (*messagingv1.SendMessageResponse, error) {
	if err := s.allowSend(ctx, app, from, m, s.deps.Now()); err != nil {
		return nil, err
	}
	d := partition.Draft{App: ident.AppKey(app.Key), Record: &busv1.LogRecord{App: app.Key, Type: m.Type}}
	seen := make(map[string]bool, len(targets))
	for _, target := range targets {
		if !seen[target] {
			seen[target] = true
			d.Targets = append(d.Targets, partition.Target{To: target, Drop: true})
		}
	}
	if err := s.log.Commit(ctx, &d); err != nil {
		return nil, err
	}
	resp := &messagingv1.SendMessageResponse{}
	for _, t := range d.Targets {
		resp.Results = append(resp.Results, &messagingv1.SendResult{Target: t.To, MessageId: strconv.FormatInt(t.ID, 10)})
	}
	return resp, nil
}
