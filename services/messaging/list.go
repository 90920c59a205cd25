package messaging

import (
	"context"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/content"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/names"
	"github.com/chappe-im/chappe/pkg/store"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

// listMessages reads a page of a conversation, oldest first, without contact
// events.
func (s *Service) listMessages(ctx context.Context, req *messagingv1.ListMessagesRequest) (*messagingv1.ListMessagesResponse, error) {
	app, ok := s.deps.Apps.App(req.GetOrg(), req.GetApp())
	if !ok {
		return nil, errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	limit := req.GetLimit()
	if limit == 0 {
		limit = 100
	}
	if limit < 1 || limit > 1000 || req.GetAfterSeq() < 0 {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	c, err := s.archive.find(ctx, app.Number, req.GetConversation(), 0)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, errs.NotFound()
	}
	rows, err := s.deps.DB.Read().QueryContext(ctx, `SELECT seq, data FROM message WHERE app = $1 AND conv = $2 AND seq > $3 AND type < $4 ORDER BY seq LIMIT $5`,
		app.Number, c.id, req.GetAfterSeq(), int(bus.FirstEvent), limit)
	if err != nil {
		return nil, store.Translate(err)
	}
	defer func() { _ = rows.Close() }()
	resp := &messagingv1.ListMessagesResponse{LastSeq: c.last}
	for rows.Next() {
		var seq int64
		var data []byte
		if err := rows.Scan(&seq, &data); err != nil {
			return nil, store.Translate(err)
		}
		var d busv1.Delivery
		if err := proto.Unmarshal(data, &d); err != nil {
			return nil, errs.Internal(err)
		}
		m, err := publicMessage(app.Key, &d)
		if err != nil {
			return nil, err
		}
		m.Seq = seq
		resp.Messages = append(resp.Messages, m)
	}
	return resp, store.Translate(rows.Err())
}

// publicMessage gives a delivery the form that other services see.
func publicMessage(appKey string, d *busv1.Delivery) (*messagingv1.Message, error) {
	payload, err := content.Payload(d.GetType(), d.GetBody())
	if err != nil {
		return nil, errs.Internal(err)
	}
	org, app, _ := names.SplitAppKey(appKey)
	return &messagingv1.Message{
		Id: strconv.FormatInt(d.GetId(), 10), Org: org, App: app, Kind: d.GetKind(), Conversation: d.GetConversation(),
		Seq: d.GetSeq(), From: d.GetFrom(), To: d.GetTo(), Timestamp: d.GetTimestamp(),
		Type: content.TypeName(d.GetType()), Payload: string(payload),
	}, nil
}
