package messaging

import (
	"context"
	"strconv"

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

// SourceMetadata is the metadata key by which the gateway says that a call
// came in by REST, so that its deliveries count against the app's downstream
// budget.
const SourceMetadata = "chappe-source"

// SendToUsers implements messagingv1.MessagingServiceServer. It checks a send
// and commits it.
func (s *Service) SendToUsers(ctx context.Context, req *messagingv1.SendToUsersRequest) (*messagingv1.SendToUsersResponse, error) {
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

	now, key := s.deps.Now(), ident.AppKey(app.Key)
	if from != ident.Admin {
		who, err := s.recipients.get(ctx, key, []ident.UserID{from}, now)
		if err != nil {
			return nil, err
		}
		if who[0].mutedAt(now) {
			return nil, errs.Forbidden("user " + string(from) + " is muted")
		}
	}
	to, err := s.recipients.get(ctx, key, targets, now)
	if err != nil {
		return nil, err
	}
	timestamp := req.GetMsgTimestamp()
	if timestamp == 0 {
		timestamp = now.UnixMilli()
	}
	source := metadata.ValueFromIncomingContext(ctx, SourceMetadata)
	d := partition.Draft{
		App: key,
		Record: &busv1.LogRecord{
			App: app.Key, Kind: busv1.Kind_KIND_USER, Type: m.Type, From: string(from), Timestamp: timestamp, Body: m.Body,
			OnlineOnly: req.GetRoutetype() == routeOnline, SyncSender: req.GetSyncDevice(), Paced: len(source) > 0 && source[0] == "rest",
		},
		Targets: make([]partition.Target, len(targets)),
	}
	for i, user := range targets {
		d.Targets[i] = partition.Target{To: string(user), Drop: !to[i].exists || to[i].blocks(from)}
	}
	if err := s.log.Commit(ctx, &d); err != nil {
		return nil, err
	}
	s.metrics.accepted.WithLabelValues("server").Add(float64(len(targets)))

	resp := &messagingv1.SendToUsersResponse{Results: make([]*messagingv1.SendResult, len(targets))}
	results := make([]messagingv1.SendResult, len(targets))
	for i := range d.Targets {
		r := &results[i]
		r.Target, r.MessageId = d.Targets[i].To, strconv.FormatInt(d.Targets[i].ID, 10)
		resp.Results[i] = r
	}
	return resp, nil
}

// sender returns the folded sender: "admin" when none is named.
func sender(from *string) (ident.UserID, error) {
	if from == nil {
		return ident.Admin, nil
	}
	if *from == "" {
		return "", errs.Invalid("from can't be empty")
	}
	if !ident.ValidUser(*from) {
		return "", errs.Invalid(errs.MessageInvalidRequest)
	}
	return ident.FoldUser(*from), nil
}

// distinctTargets folds the targets and drops repetitions, keeping the order.
func distinctTargets(to []string) ([]ident.UserID, error) {
	if len(to) == 0 || len(to) > maxUserTargets {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	if len(to) == 1 {
		if to[0] == "" || len(to[0]) > ident.MaxUserID {
			return nil, errs.Invalid(errs.MessageInvalidRequest)
		}
		return []ident.UserID{ident.FoldUser(to[0])}, nil
	}
	out := make([]ident.UserID, 0, len(to))
	seen := make(map[ident.UserID]struct{}, len(to))
	for _, t := range to {
		if t == "" || len(t) > ident.MaxUserID {
			return nil, errs.Invalid(errs.MessageInvalidRequest)
		}
		user := ident.FoldUser(t)
		if _, ok := seen[user]; ok {
			continue
		}
		seen[user] = struct{}{}
		out = append(out, user)
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
