package messaging

import (
	"context"
	"time"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	"github.com/chappe-im/chappe/services/messaging/history"
)

const (
	// maxConversations bounds the conversations that one call asks for.
	maxConversations = 256
	// openWait is how long a gateway is kept waiting for the archive before it
	// is told to come again.
	openWait = 3 * time.Second
	// pullDefault and pullMax are how many entries a page has when the call does
	// not say, and at most.
	pullDefault = 50
	pullMax     = 200
)

// OpenDevice implements messagingv1.SyncServiceServer. It lists what is unread
// for a device. The log is asked how far it is and the archive read when it has
// got there, so that the list holds everything acknowledged before the call. An
// archive that is slow or away does not give a shorter list, it gives none.
func (s *Service) OpenDevice(ctx context.Context, req *messagingv1.OpenDeviceRequest) (*messagingv1.OpenDeviceResponse, error) {
	app, ok := s.deps.Apps.App(req.GetOrg(), req.GetApp())
	if !ok {
		return nil, errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	user := ident.FoldUser(req.GetUser())
	if !user.Valid() || !ident.ValidResource(req.GetResource()) {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	places := req.GetLogPlaces()
	if len(req.GetConversations()) > maxConversations || len(places) > 0 && len(places) != s.cfg.Partitions {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	var conversations []ident.ConversationID
	for _, c := range req.GetConversations() {
		conversations = append(conversations, ident.ConversationID(c))
	}
	if len(places) == 0 {
		var err error
		if places, err = s.barrier.Ends(ctx); err != nil {
			return nil, err
		}
		if len(conversations) > 0 {
			places = s.onlyOf(places, ident.AppKey(app.Key), conversations)
		}
	}
	wait, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	at, reached := s.barrier.Reach(wait, places)
	if !reached {
		return &messagingv1.OpenDeviceResponse{LogPlaces: places, Pending: true}, nil
	}
	if len(conversations) > 0 {
		queues, err := s.devices.Queues(ctx, app.Number, user, req.GetResource(), conversations)
		if err != nil {
			return nil, err
		}
		return &messagingv1.OpenDeviceResponse{Queues: queues, LogPlaces: at}, nil
	}
	if err := s.devices.Open(ctx, app.Number, user, req.GetResource(), req.GetSince()); err != nil {
		return nil, err
	}
	queues, err := s.devices.Unread(ctx, app.Number, user, req.GetResource())
	if err != nil {
		return nil, err
	}
	return &messagingv1.OpenDeviceResponse{Queues: queues, LogPlaces: at, More: len(queues) == history.MaxQueues}, nil
}

// onlyOf returns the places of the partitions that some conversations live in,
// and 0 for the others: what is of no concern is not waited for.
func (s *Service) onlyOf(places []uint64, app ident.AppKey, conversations []ident.ConversationID) []uint64 {
	out := make([]uint64, len(places))
	for _, c := range conversations {
		p := s.log.Partition(app, c)
		out[p] = places[p]
	}
	return out
}

// PullConversation implements messagingv1.SyncServiceServer.
func (s *Service) PullConversation(ctx context.Context, req *messagingv1.PullConversationRequest) (*messagingv1.PullConversationResponse, error) {
	app, ok := s.deps.Apps.App(req.GetOrg(), req.GetApp())
	if !ok {
		return nil, errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	limit := req.GetLimit()
	if limit == 0 {
		limit = pullDefault
	}
	if limit < 1 || limit > pullMax || req.GetAfterSeq() < 0 {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	page, err := s.devices.Pull(ctx, app.Number, ident.FoldUser(req.GetUser()), req.GetResource(),
		ident.ConversationID(req.GetConversation()), req.GetAfterSeq(), limit)
	if err != nil {
		return nil, err
	}
	return &messagingv1.PullConversationResponse{Entries: page.Entries, ThroughSeq: page.Through, LastSeq: page.Last}, nil
}

// ConfirmDevices implements messagingv1.SyncServiceServer.
func (s *Service) ConfirmDevices(ctx context.Context, req *messagingv1.ConfirmDevicesRequest) (*messagingv1.ConfirmDevicesResponse, error) {
	all := make([]history.Confirmed, 0, len(req.GetPositions()))
	from := make([]*messagingv1.DevicePosition, 0, len(req.GetPositions()))
	for _, p := range req.GetPositions() {
		app, ok := s.deps.Apps.App(p.GetOrg(), p.GetApp())
		if !ok {
			continue
		}
		from = append(from, p)
		conversation := ident.ConversationID(p.GetConversation())
		all = append(all, history.Confirmed{
			App: app.Number, User: ident.FoldUser(p.GetUser()), Resource: p.GetResource(), Conversation: conversation,
			Seq: p.GetSeq(), Epoch: p.GetEpoch(), Partition: s.log.Partition(ident.AppKey(app.Key), conversation),
		})
	}
	if len(all) == 0 {
		return &messagingv1.ConfirmDevicesResponse{}, nil
	}
	early, err := s.devices.Confirm(ctx, all)
	if err != nil {
		return nil, err
	}
	resp := &messagingv1.ConfirmDevicesResponse{Early: make([]*messagingv1.DevicePosition, 0, len(early))}
	for _, i := range early {
		resp.Early = append(resp.Early, from[i])
	}
	return resp, nil
}
