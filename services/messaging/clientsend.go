package messaging

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/content"
	"github.com/chappe-im/chappe/pkg/entrytype"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
	"github.com/chappe-im/chappe/services/messaging/partition"
)

// MetadataSyncCode is the metadata key of errors that a connected device is
// refused with: the status code of the client protocol. The error's message is
// the reason text that goes with it.
const MetadataSyncCode = "sync_code"

// refuse makes an error that the client protocol has a code and text for.
func refuse(code msyncv1.Status_ErrorCode, reason string) error {
	return errs.Forbidden(reason).With(MetadataSyncCode, strconv.Itoa(int(code)))
}

// SendFromClient implements messagingv1.MessagingServiceServer. It checks and
// commits what a connected device sent.
func (s *Service) SendFromClient(ctx context.Context, req *messagingv1.SendFromClientRequest) (*messagingv1.SendFromClientResponse, error) {
	app, ok := s.deps.Apps.App(req.GetOrg(), req.GetApp())
	if !ok {
		return nil, errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	var meta msyncv1.Meta
	if err := proto.Unmarshal(req.GetMeta(), &meta); err != nil {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	if strings.Contains(meta.GetTo().GetDomain(), "conference") {
		// Groups and rooms are not offered yet, so none of them exists.
		return nil, refuse(msyncv1.Status_FAIL, "group not found")
	}
	to := ident.FoldUser(meta.GetTo().GetName())
	if !to.Valid() {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	m, body, err := content.FromClient(meta.GetPayload())
	if err != nil {
		return nil, err
	}
	switch m.Type {
	case busv1.EntryType_ENTRY_TYPE_RECALL:
		return nil, refuse(msyncv1.Status_FAIL, "message recall disabled")
	case busv1.EntryType_ENTRY_TYPE_EDIT:
		return nil, refuse(msyncv1.Status_FAIL, "Sorry, edit is not available")
	case busv1.EntryType_ENTRY_TYPE_READ_ACK, busv1.EntryType_ENTRY_TYPE_DELIVERY_ACK:
		if body.GetAckMessageId() == 0 && !validIDs(body.GetAckMessageIds()) {
			return nil, errs.Invalid(errs.MessageInvalidRequest)
		}
	}
	if !fitsEncoded(app, m, len(req.GetMeta())) {
		return nil, refuse(msyncv1.Status_PERMISSION_DENIED, "Sorry, data is too large")
	}

	now, key := s.deps.Now(), ident.AppKey(app.Key)
	from := ident.FoldUser(req.GetUser())
	who, err := s.recipients.get(ctx, key, []ident.UserID{from, to}, now)
	if err != nil {
		return nil, err
	}
	message := entrytype.IsMessage(m.Type)
	if message && who[0].mutedAt(now) {
		return nil, refuse(msyncv1.Status_USER_MUTED, "user is mute")
	}
	blocked := who[1].exists && who[1].blocks(from)
	if message && blocked {
		return nil, refuse(msyncv1.Status_FAIL, "blocked")
	}
	metaExt, err := onlyExt(&meta)
	if err != nil {
		return nil, err
	}
	timestamp := now.UnixMilli()
	d := partition.Draft{
		App: key,
		Record: &busv1.LogRecord{
			App: app.Key, Kind: busv1.Kind_KIND_USER, Type: m.Type, From: string(from), FromResource: req.GetResource(),
			Timestamp: timestamp, Body: m.Body, MetaExt: metaExt,
			OnlineOnly: meta.GetRoutetype() == msyncv1.Meta_ROUTE_ONLINE,
			SyncSender: message,
			Paced:      app.Tier.Downstream().Client,
		},
		Targets:   []partition.Target{{To: string(to), Drop: !who[1].exists || blocked}},
		RepeatKey: repeatKey(ident.User{App: key, ID: from}.Device(req.GetResource()), to, &meta),
	}
	if err := s.log.Commit(ctx, &d); err != nil {
		return nil, err
	}
	s.metrics.accepted.WithLabelValues("client").Inc()
	return &messagingv1.SendFromClientResponse{MessageId: d.Targets[0].ID, Timestamp: d.Record.GetTimestamp()}, nil
}

// repeatKey returns what a client's send is recognized by when it comes again,
// because the connection broke before the answer came: the device, the ID that
// the client gave the message, and what the message says. The content counts
// because some clients count their IDs from 1 at each start. The log recognizes
// repetitions for partition.LogWindow, whichever instance they come to.
func repeatKey(from ident.Device, to ident.UserID, meta *msyncv1.Meta) string {
	if meta.GetId() == 0 || from.Resource == "" {
		return ""
	}
	h := sha256.New()
	for _, part := range []string{string(from.App), string(from.ID), from.Resource, string(to)} {
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		_, _ = h.Write([]byte(part))
	}
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, meta.GetId()))
	_, _ = h.Write(meta.GetPayload())
	return "c" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}

// metaOverhead is what the names, numbers and tags around a message's texts may
// take, in bytes.
const metaOverhead = 2 << 10

// fitsEncoded reports whether what a device sent is within the tier's limit for
// its type: its texts, and all of it, because devices can put bytes where no
// text is looked for. Pairs of short texts can take as much again as the texts
// themselves. Receipts have no texts.
func fitsEncoded(app *catalog.App, m content.Message, encoded int) bool {
	if !entrytype.IsMessage(m.Type) {
		return encoded <= metaOverhead
	}
	if !fits(app, m) {
		return false
	}
	limit := textLimit(app, m.Type)
	return limit < 0 || int64(encoded-metaOverhead)/2 <= limit
}

// validIDs reports whether there are IDs of messages, and each can be one.
func validIDs(ids []uint64) bool { return len(ids) > 0 && !slices.Contains(ids, 0) }

// onlyExt keeps the extension pairs of a meta, which travel with the message.
func onlyExt(meta *msyncv1.Meta) ([]byte, error) {
	if len(meta.GetExt()) == 0 {
		return nil, nil
	}
	b, err := proto.Marshal(&msyncv1.Meta{Ext: meta.GetExt()})
	if err != nil {
		return nil, errs.Internal(errors.New("marshal extension pairs"))
	}
	return b, nil
}
