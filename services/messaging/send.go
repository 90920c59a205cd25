package messaging

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/tidwall/gjson"
	"google.golang.org/grpc/metadata"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/content"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/tier"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	"github.com/chappe-im/chappe/services/messaging/partition"
)

// maxUserTargets bounds the targets of one call (wire contract, targets per
// call).
const maxUserTargets = 600

// routeOnline is the routetype of messages that nobody gets later.
const routeOnline = "ROUTE_ONLINE"

// userSend is a checked send to users on its way to the log.
type userSend struct {
	app        *catalog.App
	from       ident.UserID
	targets    []ident.UserID // each once
	content    content.Message
	onlineOnly bool
	syncSender bool
	// timestamp is in Unix milliseconds; 0 means now.
	timestamp int64
	// paced says that the deliveries count against the app's downstream budget.
	paced bool
}

// SourceMetadata is the metadata key by which the gateway says that a call
// came in by REST, so that its deliveries count against the app's downstream
// budget.
const SourceMetadata = "chappe-source"

// fromREST reports whether a call came in by REST.
func fromREST(ctx context.Context) bool {
	source := metadata.ValueFromIncomingContext(ctx, SourceMetadata)
	return len(source) > 0 && source[0] == "rest"
}

// SendToUsers implements messagingv1.MessagingServiceServer. It checks a send
// and commits it.
func (s *Service) SendToUsers(ctx context.Context, req *messagingv1.SendToUsersRequest) (*messagingv1.SendToUsersResponse, error) {
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
		syncSender: req.GetSyncDevice(), timestamp: req.GetMsgTimestamp(), paced: fromREST(ctx),
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
	key := ident.AppKey(u.app.Key)
	to, err := s.recipients.get(ctx, key, u.targets, now)
	if err != nil {
		return nil, err
	}
	if u.timestamp == 0 {
		u.timestamp = now.UnixMilli()
	}
	d := partition.Draft{
		App: key,
		Record: &busv1.LogRecord{
			App: u.app.Key, Kind: busv1.Kind_KIND_USER, Type: u.content.Type, From: string(u.from), Timestamp: u.timestamp,
			Body: u.content.Body, OnlineOnly: u.onlineOnly, SyncSender: u.syncSender, Paced: u.paced,
		},
		Targets: make([]partition.Target, len(u.targets)),
	}
	for i, user := range u.targets {
		d.Targets[i] = partition.Target{To: string(user), Drop: !to[i].exists}
	}
	if err := s.log.Commit(ctx, &d); err != nil {
		return nil, err
	}
	s.metrics.accepted.WithLabelValues("server").Add(float64(len(u.targets)))

	out := make([]*messagingv1.SendResult, len(u.targets))
	results := make([]messagingv1.SendResult, len(u.targets))
	for i := range d.Targets {
		r := &results[i]
		r.Target, r.MessageId = d.Targets[i].To, strconv.FormatInt(d.Targets[i].ID, 10)
		out[i] = r
	}
	return out, nil
}

// allowSend refuses a message that is too large and, in apps whose settings
// say so, one whose sender is globally muted.
func (s *Service) allowSend(ctx context.Context, app *catalog.App, from ident.UserID, m content.Message, now time.Time) error {
	if !fits(app, m) {
		return errs.MessageRefused("message is too large").WithCode(errs.CodeMessageTooLong)
	}
	if !app.Settings.RESTSendChecks || from == ident.Admin {
		return nil
	}
	who, err := s.recipients.get(ctx, ident.AppKey(app.Key), []ident.UserID{from}, now)
	if err != nil {
		return err
	}
	if who[0].mutedAt(now) {
		return errs.Forbidden("user " + string(from) + " is muted")
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
func sender(from *string) (folded ident.UserID, ok bool) {
	if from == nil {
		return ident.Admin, true
	}
	return ident.FoldUser(*from), ident.ValidUser(*from)
}

// distinctTargets folds the targets and drops repetitions, keeping the order.
func distinctTargets(to []string) []ident.UserID {
	if len(to) == 1 {
		return []ident.UserID{ident.FoldUser(to[0])}
	}
	out := make([]ident.UserID, 0, len(to))
	seen := make(map[ident.UserID]struct{}, len(to))
	for _, t := range to {
		user := ident.FoldUser(t)
		if _, ok := seen[user]; ok {
			continue
		}
		seen[user] = struct{}{}
		out = append(out, user)
	}
	return out
}

// fits reports whether a message is within the tier's limit for its type.
func fits(app *catalog.App, m content.Message) bool {
	limit := textLimit(app, m.Type)
	return limit < 0 || int64(m.Size) <= limit
}

// textLimit returns the bytes that a message's texts and ext may have. Media
// messages only name a file, whose own size the upload limits; what they say
// about it may be as long as a text.
func textLimit(app *catalog.App, t busv1.EntryType) int64 {
	switch t {
	case busv1.EntryType_ENTRY_TYPE_CMD:
		return app.Tier.Size(tier.SizeMessageCmd)
	case busv1.EntryType_ENTRY_TYPE_CUSTOM:
		return app.Tier.Size(tier.SizeMessageCustom)
	case busv1.EntryType_ENTRY_TYPE_LOC:
		return app.Tier.Size(tier.SizeMessageLoc)
	default:
		return app.Tier.Size(tier.SizeMessageTxt)
	}
}
