package messaging

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/names"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

// SourceMetadata is the metadata key by which the gateway says that a call
// came in by REST, so that its deliveries count against the app's downstream
// budget.
const SourceMetadata = "chappe-source"

// SendToUsers implements messagingv1.MessagingServiceServer.
func (s *Service) SendToUsers(ctx context.Context, req *messagingv1.SendToUsersRequest) (*messagingv1.SendToUsersResponse, error) {
	return s.sendToUsers(ctx, req, fromREST(ctx))
}

// SendMessage implements messagingv1.MessagingServiceServer.
func (s *Service) SendMessage(ctx context.Context, req *messagingv1.SendMessageRequest) (*messagingv1.SendMessageResponse, error) {
	return s.sendMessage(ctx, req, fromREST(ctx))
}

// fromREST reports whether a call came in by REST.
func fromREST(ctx context.Context) bool {
	source := metadata.ValueFromIncomingContext(ctx, SourceMetadata)
	return len(source) > 0 && source[0] == "rest"
}

// SendFromClient implements messagingv1.MessagingServiceServer.
func (s *Service) SendFromClient(ctx context.Context, req *messagingv1.SendFromClientRequest) (*messagingv1.SendFromClientResponse, error) {
	return s.sendFromClient(ctx, req)
}

// GetOfflineMessageCount implements messagingv1.MessagingServiceServer.
func (s *Service) GetOfflineMessageCount(ctx context.Context, req *messagingv1.GetOfflineMessageCountRequest) (*messagingv1.GetOfflineMessageCountResponse, error) {
	n, err := s.offlineCount(ctx, req.GetOrg(), req.GetApp(), req.GetUsername())
	if err != nil {
		return nil, err
	}
	return &messagingv1.GetOfflineMessageCountResponse{Count: n}, nil
}

// GetOfflineMessageStatus implements messagingv1.MessagingServiceServer.
func (s *Service) GetOfflineMessageStatus(ctx context.Context, req *messagingv1.GetOfflineMessageStatusRequest) (*messagingv1.GetOfflineMessageStatusResponse, error) {
	waits, err := s.offlineHolds(ctx, req.GetOrg(), req.GetApp(), req.GetUsername(), req.GetMessageId())
	if err != nil {
		return nil, err
	}
	return &messagingv1.GetOfflineMessageStatusResponse{Delivered: !waits}, nil
}

// ListMessages implements messagingv1.MessagingServiceServer.
func (s *Service) ListMessages(ctx context.Context, req *messagingv1.ListMessagesRequest) (*messagingv1.ListMessagesResponse, error) {
	return s.listMessages(ctx, req)
}

// Subscribe implements messagingv1.MessagingServiceServer.
func (s *Service) Subscribe(req *messagingv1.SubscribeRequest, stream grpc.ServerStreamingServer[messagingv1.SubscribeResponse]) error {
	return s.subscribe(stream.Context(), req, stream.Send)
}

// OpenDevice implements messagingv1.SyncServiceServer.
func (s *Service) OpenDevice(ctx context.Context, req *messagingv1.OpenDeviceRequest) (*messagingv1.OpenDeviceResponse, error) {
	app, ok := s.deps.Apps.App(req.GetOrg(), req.GetApp())
	if !ok {
		return nil, errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	user := names.FoldUser(req.GetUser())
	if !names.ValidUser(user) || req.GetResource() == "" || len(req.GetResource()) > maxResourceBytes {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	if len(req.GetConversations()) > maxAsked || len(req.GetLogPlaces()) > 0 && len(req.GetLogPlaces()) != s.cfg.Partitions {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	return s.openDevice(ctx, app, user, req)
}

// maxResourceBytes bounds the names of devices.
const maxResourceBytes = 256

// PullConversation implements messagingv1.SyncServiceServer.
func (s *Service) PullConversation(ctx context.Context, req *messagingv1.PullConversationRequest) (*messagingv1.PullConversationResponse, error) {
	app, ok := s.deps.Apps.App(req.GetOrg(), req.GetApp())
	if !ok {
		return nil, errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	return s.devices.pull(ctx, app.Number, req)
}

// ConfirmDevices implements messagingv1.SyncServiceServer.
func (s *Service) ConfirmDevices(ctx context.Context, req *messagingv1.ConfirmDevicesRequest) (*messagingv1.ConfirmDevicesResponse, error) {
	all := make([]position, 0, len(req.GetPositions()))
	from := make([]*messagingv1.DevicePosition, 0, len(req.GetPositions()))
	for _, p := range req.GetPositions() {
		app, ok := s.deps.Apps.App(p.GetOrg(), p.GetApp())
		if !ok {
			continue
		}
		from = append(from, p)
		all = append(all, position{
			app: app.Number, user: names.FoldUser(p.GetUser()), resource: p.GetResource(), conversation: p.GetConversation(), seq: p.GetSeq(),
		})
	}
	if len(all) == 0 {
		return &messagingv1.ConfirmDevicesResponse{}, nil
	}
	early, err := s.devices.confirm(ctx, all)
	if err != nil {
		return nil, err
	}
	resp := &messagingv1.ConfirmDevicesResponse{Early: make([]*messagingv1.DevicePosition, 0, len(early))}
	for _, i := range early {
		resp.Early = append(resp.Early, from[i])
	}
	return resp, nil
}
