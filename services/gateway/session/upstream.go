package session

import (
	"bytes"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/msync"
	"github.com/chappe-im/chappe/pkg/obs"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// metadataSyncCode is the metadata key of errors that carry a status code of the
// client protocol; their message is the reason that goes with it.
const metadataSyncCode = "sync_code"

// upstream takes a meta that the device sends. Every one is answered: a device
// without an answer breaks the connection off.
func (c *conn) upstream(meta []byte) {
	head, ok := msync.ParseMetaHead(meta)
	if !ok {
		c.shutdown(closeInvalidData, "malformed frame")
		return
	}
	if head.NS == msyncv1.Meta_STATISTIC {
		c.send(msync.AppendAck(nil, head.ID, 0, c.srv.now()))
		c.srv.metrics.sends.WithLabelValues("statistic").Inc()
		return
	}
	if !c.admit(head) {
		c.limited(head)
		return
	}
	switch head.NS {
	case msyncv1.Meta_CHAT:
		c.message(head, meta)
	case msyncv1.Meta_MUC:
		c.refuse(head.ID, msyncv1.Status_FAIL, noSuchRoom(meta))
	default:
		c.refuse(head.ID, msyncv1.Status_FAIL, "operation is not supported")
	}
}

// message hands a message, receipt or change to the messaging service.
func (c *conn) message(head msync.MetaHead, meta []byte) {
	ctx, cancel := c.srv.callContext()
	defer cancel()
	resp, err := c.srv.messages.SendFromClient(ctx, &messagingv1.SendFromClientRequest{
		Org: c.org, App: c.app, User: string(c.user.ID), Resource: c.resource,
		// The frame's buffer is used again when this returns, which can be before
		// the service is done with it.
		Meta: bytes.Clone(meta),
	})
	if err == nil {
		c.send(msync.AppendAck(nil, head.ID, uint64(resp.GetMessageId()), resp.GetTimestamp())) // IDs are positive
		c.srv.metrics.sendOK.Inc()
		return
	}
	code, reason := refusal(err)
	c.refuse(head.ID, code, reason)
	switch errs.From(err).Code {
	case codes.Internal, codes.Unavailable, codes.DeadlineExceeded:
		c.srv.logger.Warn("message was not taken", obs.KeyApp, c.user.App, obs.KeyUser, c.user.ID, obs.KeyError, err)
	}
}

func (c *conn) refuse(metaID uint64, code msyncv1.Status_ErrorCode, reason string) {
	c.send(msync.AppendRefusal(nil, metaID, code, reason, c.srv.now()))
	c.srv.metrics.sends.WithLabelValues("refused").Inc()
}

// refusal is the status that a device understands best. Devices settle a refusal
// of code 7 only with the reasons they know, and need a reason with code 1.
func refusal(err error) (msyncv1.Status_ErrorCode, string) {
	e := errs.From(err)
	reason := e.Message
	if reason == "" {
		reason = "message was not taken"
	}
	if text, ok := e.Metadata[metadataSyncCode]; ok {
		n, err := strconv.ParseInt(text, 10, 32)
		code := msyncv1.Status_ErrorCode(n) // parsed to 32 bits
		if err != nil || code == msyncv1.Status_OK || code == msyncv1.Status_PERMISSION_DENIED && !settles(reason) {
			code = msyncv1.Status_FAIL
		}
		return code, reason
	}
	switch {
	case e.Reason == errs.ReasonTooLarge:
		return msyncv1.Status_PERMISSION_DENIED, reasonTooLarge
	case e.Code == codes.ResourceExhausted:
		return msyncv1.Status_PERMISSION_DENIED, reasonTraffic
	}
	return msyncv1.Status_FAIL, reason
}

// Reasons of code 7.
const (
	reasonTooLarge = "Sorry, data is too large"
	reasonTraffic  = "traffic limit"
)

// settles reports whether devices know a reason of code 7.
func settles(reason string) bool {
	switch reason {
	case "sensitive words", "blocked by mod_antispam", "user is mute", reasonTraffic, reasonTooLarge:
		return true
	}
	return false
}

// noSuchRoom is the reason with which a device gives up on a room that does not
// exist; none does as yet.
func noSuchRoom(meta []byte) string {
	return strings.TrimSuffix("grpID "+msync.MUCName(meta), " ") + " does not exist!"
}
