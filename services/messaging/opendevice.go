package messaging

import (
	"context"
	"time"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/catalog"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

const (
	// maxAsked bounds the conversations that one call asks for.
	maxAsked = 256
	// openWait is how long a gateway is kept waiting for the archive before it
	// is told to come again.
	openWait = 3 * time.Second
)

// openDevice lists what is unread for a device. The log is asked how far it is
// and the archive read when it has got there, so that the list holds everything
// acknowledged before the call. An archive that is slow or away does not give a
// shorter list, it gives none.
func (s *Service) openDevice(ctx context.Context, app *catalog.App, user string, req *messagingv1.OpenDeviceRequest) (*messagingv1.OpenDeviceResponse, error) {
	places := req.GetLogPlaces()
	if len(places) == 0 {
		var err error
		if places, err = s.settling.ends(ctx); err != nil {
			return nil, err
		}
		if len(req.GetConversations()) > 0 {
			places = onlyOf(places, app.Key, req.GetConversations())
		}
	}
	wait, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	at, reached := s.settling.reach(wait, places)
	if !reached {
		return &messagingv1.OpenDeviceResponse{LogPlaces: places, Pending: true}, nil
	}
	if names := req.GetConversations(); len(names) > 0 {
		queues, err := s.devices.queues(ctx, app.Number, user, req.GetResource(), names)
		if err != nil {
			return nil, err
		}
		return &messagingv1.OpenDeviceResponse{Queues: queues, LogPlaces: at}, nil
	}
	if err := s.devices.open(ctx, app.Number, user, req.GetResource(), req.GetSince()); err != nil {
		return nil, err
	}
	queues, err := s.devices.unread(ctx, app.Number, user, req.GetResource())
	if err != nil {
		return nil, err
	}
	return &messagingv1.OpenDeviceResponse{Queues: queues, LogPlaces: at, More: len(queues) == maxQueues}, nil
}

// onlyOf returns the places of the partitions that some conversations live in,
// and 0 for the others: what is of no concern is not waited for.
func onlyOf(places []uint64, appKey string, conversations []string) []uint64 {
	out := make([]uint64, len(places))
	for _, c := range conversations {
		p := bus.Partition(appKey, c, len(places))
		out[p] = places[p]
	}
	return out
}
