package messaging

import (
	"context"
	"strconv"

	"github.com/chappe-im/chappe/pkg/content"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

// ListMessages implements messagingv1.MessagingServiceServer. It reads a page of
// a conversation, oldest first, without contact events.
func (s *Service) ListMessages(ctx context.Context, req *messagingv1.ListMessagesRequest) (*messagingv1.ListMessagesResponse, error) {
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
	c, err := s.archive.Find(ctx, app.Number, ident.ConversationID(req.GetConversation()), 0)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, errs.NotFound()
	}
	entries, err := s.archive.List(ctx, c, req.GetAfterSeq(), limit)
	if err != nil {
		return nil, err
	}
	resp := &messagingv1.ListMessagesResponse{LastSeq: c.LastSeq, Messages: make([]*messagingv1.Message, len(entries))}
	for i, d := range entries {
		if resp.Messages[i], err = publicMessage(ident.AppKey(app.Key), d); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// publicMessage returns a delivery in the form that other services see.
func publicMessage(key ident.AppKey, d *busv1.Delivery) (*messagingv1.Message, error) {
	payload, err := content.Payload(d.GetType(), d.GetBody())
	if err != nil {
		return nil, errs.Internal(err)
	}
	org, app, _ := key.Split()
	return &messagingv1.Message{
		Id: strconv.FormatInt(d.GetId(), 10), Org: org, App: app, Kind: d.GetKind(), Conversation: d.GetConversation(),
		Seq: d.GetSeq(), From: d.GetFrom(), To: d.GetTo(), Timestamp: d.GetTimestamp(),
		Type: content.TypeName(d.GetType()), Payload: string(payload),
	}, nil
}
