package messaging

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"time"

	"github.com/tidwall/gjson"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/content"
	"github.com/chappe-im/chappe/pkg/entrytype"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/lifecycle"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// PushEvent asks a push provider to tell a user of a message who is not
// connected. It is the JSON on the subjects of bus.PushStream, one for each
// message and offline recipient; the recipient's settings have been applied.
type PushEvent struct {
	// App is "org#app".
	App       string `json:"app"`
	User      string `json:"user"`
	MessageID string `json:"message_id"`
	From      string `json:"from"`
	ChatType  string `json:"chat_type"`
	// Type of the message: txt, img and so on.
	Type string `json:"type"`
	// Timestamp of the message in Unix milliseconds.
	Timestamp int64 `json:"timestamp"`
	// Title and Text to show, by the recipient's display style.
	Title string `json:"title"`
	Text  string `json:"text"`
	// Ext is the message's ext, in which apps put what their push layer reads.
	Ext json.RawMessage `json:"ext"`
	// NotifierName and DeviceToken are what the recipient's device registered
	// last, Bindings what all devices have, the newest first.
	NotifierName string        `json:"notifier_name,omitempty"`
	DeviceToken  string        `json:"device_token,omitempty"`
	Bindings     []PushBinding `json:"bindings,omitempty"`
	// Language and Template are the recipient's choices.
	Language string        `json:"language,omitempty"`
	Template *PushTemplate `json:"template,omitempty"`
}

// PushBinding is the push token of a device.
type PushBinding struct {
	DeviceID     string `json:"device_id"`
	NotifierName string `json:"notifier_name"`
	DeviceToken  string `json:"device_token"`
}

// PushTemplate is how the app words what a user is told.
type PushTemplate struct {
	Name           string `json:"name"`
	TitlePattern   string `json:"title_pattern"`
	ContentPattern string `json:"content_pattern"`
}

const (
	pushConsumer = "push"
	pushBatch    = 100
	pushWait     = time.Second
	pushPause    = time.Second // after a failure
	pushKept     = 24 * time.Hour
	// presenceBatch is how many users presence answers for at once.
	presenceBatch = 100
)

// Keys of ext that speak to the push layer (wire contract, sending).
const (
	extForce  = "em_force_notification"
	extIgnore = "em_ignore_notification"
)

// notifier turns messages to users who are not connected into PushEvents. It
// reads each partition's log by itself, after the worker or before it, with a
// durable consumer: an event is lost to no crash, and may come twice.
type notifier struct {
	nats     *natsx.Conn
	presence presencev1.PresenceServiceClient
	users    *recipientCache
	// zone is where do-not-disturb hours are told.
	zone   *time.Location
	now    func() time.Time
	logger *slog.Logger
}

// prepare makes the stream of events, and the consumers of the log, which
// begin at the first start with push events on.
func (n *notifier) prepare(ctx context.Context, partitions, replicas int) error {
	if err := n.nats.EnsureStream(ctx, natsx.StreamSpec{
		Name: bus.PushStream, Subjects: []string{bus.PushFilter}, MaxAge: pushKept,
		DuplicateWindow: 10 * time.Minute, Replicas: replicas,
	}); err != nil {
		return err
	}
	for p := range partitions {
		if _, err := n.nats.DurableConsumer(ctx, bus.LogStream(p), pushConsumer); err != nil {
			return err
		}
	}
	return nil
}

// run works on a partition's log until ctx ends.
func (n *notifier) run(ctx context.Context, partition int) {
	for ctx.Err() == nil {
		if err := n.work(ctx, partition); err != nil && ctx.Err() == nil {
			n.logger.Warn("push events wait", "partition", partition, obs.KeyError, err)
			_ = lifecycle.Sleep(ctx, pushPause)
		}
	}
}

func (n *notifier) work(ctx context.Context, partition int) error {
	source, err := n.nats.DurableConsumer(ctx, bus.LogStream(partition), pushConsumer)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		msgs, err := natsx.Fetch(source, pushBatch, pushWait)
		if err != nil {
			return err
		}
		var acks []natsx.PubAckFuture
		for _, m := range msgs {
			more, err := n.record(ctx, m.Data())
			if err != nil {
				return err
			}
			acks = append(acks, more...)
		}
		for _, a := range acks {
			if err := natsx.Await(ctx, a); err != nil {
				return err
			}
		}
		for _, m := range msgs {
			if err := m.Ack(); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// record publishes the events of one record of the log.
func (n *notifier) record(ctx context.Context, data []byte) ([]natsx.PubAckFuture, error) {
	var r busv1.LogRecord
	if err := proto.Unmarshal(data, &r); err != nil {
		return nil, nil //nolint:nilerr // the worker reports it
	}
	if !entrytype.IsNotified(r.GetType()) || r.GetOnlineOnly() || r.GetKind() != busv1.Kind_KIND_USER {
		return nil, nil
	}
	payload, err := content.Payload(r.GetType(), r.GetBody())
	if err != nil {
		return nil, nil //nolint:nilerr // nothing to show of it
	}
	ext := gjson.GetBytes(payload, "ext")
	if ext.Get(extIgnore).Bool() {
		return nil, nil
	}
	app := ident.AppKey(r.GetApp())
	offline, err := n.offline(ctx, &r)
	if err != nil {
		return nil, err
	}
	var acks []natsx.PubAckFuture
	for _, t := range offline {
		known, err := n.users.pushSettings(ctx, ident.User{App: app, ID: ident.UserID(t.GetTo())})
		if err != nil {
			return nil, err
		}
		user, now := known.user, n.now().In(n.zone)
		if user == nil {
			continue
		}
		if (quiet(user, now) || unwanted(known.wants, t.GetTo(), r.GetFrom(), ext, now)) && !ext.Get(extForce).Bool() {
			continue
		}
		event := PushEvent{
			App: r.GetApp(), User: t.GetTo(), MessageID: strconv.FormatInt(t.GetId(), 10), From: r.GetFrom(), ChatType: "chat",
			Type: content.TypeName(r.GetType()), Timestamp: r.GetTimestamp(), Ext: json.RawMessage(ext.Raw),
			NotifierName: user.GetNotifierName(), DeviceToken: user.GetDeviceToken(), Text: genericText,
			Bindings: bindingsOf(user), Language: known.wants.GetLanguage(), Template: templateOf(known.wants.GetTemplate()),
		}
		if user.GetNotificationDisplayStyle() == styleFull {
			if event.Title, err = n.nickname(ctx, ident.User{App: app, ID: ident.UserID(r.GetFrom())}); err != nil {
				return nil, err
			}
			event.Text = summary(event.Type, payload)
		}
		raw, err := json.Marshal(event)
		if err != nil {
			return nil, errs.Internal(err)
		}
		ack, err := n.nats.PublishAsync(bus.PushSubject(r.GetApp(), t.GetTo()), raw, "push-"+event.MessageID)
		if err != nil {
			return nil, err
		}
		acks = append(acks, ack)
	}
	return acks, nil
}

// offline gives the targets of a record who are not connected.
func (n *notifier) offline(ctx context.Context, r *busv1.LogRecord) ([]*busv1.LogTarget, error) {
	org, app, _ := ident.AppKey(r.GetApp()).Split()
	var out []*busv1.LogTarget
	for targets := r.GetTargets(); len(targets) > 0; {
		size := min(presenceBatch, len(targets))
		users := make([]string, size)
		for i, t := range targets[:size] {
			users[i] = t.GetTo()
		}
		resp, err := n.presence.BatchGetOnlineStatus(ctx, &presencev1.BatchGetOnlineStatusRequest{Org: org, App: app, Usernames: users})
		if err != nil {
			return nil, err
		}
		for i, online := range resp.GetOnline() {
			if !online {
				out = append(out, targets[i])
			}
		}
		targets = targets[size:]
	}
	return out, nil
}

func bindingsOf(u *accountv1.User) []PushBinding {
	var out []PushBinding
	for _, b := range u.GetPushInfo() {
		out = append(out, PushBinding{DeviceID: b.GetDeviceId(), NotifierName: b.GetNotifierName(), DeviceToken: b.GetDeviceToken()})
	}
	return out
}

func templateOf(t *accountv1.Template) *PushTemplate {
	if t == nil {
		return nil
	}
	return &PushTemplate{Name: t.GetName(), TitlePattern: t.GetTitlePattern(), ContentPattern: t.GetContentPattern()}
}

// nickname returns what a recipient is shown of a sender.
func (n *notifier) nickname(ctx context.Context, sender ident.User) (string, error) {
	if sender.ID == ident.Admin {
		return string(sender.ID), nil
	}
	known, err := n.users.pushSettings(ctx, sender)
	if err != nil {
		return "", err
	}
	return cmp.Or(known.user.GetNickname(), string(sender.ID)), nil
}

const (
	// styleFull shows the sender's nickname and the message's text.
	styleFull   = 1
	genericText = "You have a new message"
)

// quiet reports whether a user does not want to be disturbed now. The hours
// are those of now's zone; the same hour twice means the whole day, an end
// before the start the next day.
func quiet(u *accountv1.User, now time.Time) bool {
	if !u.GetNotificationNoDisturbing() {
		return false
	}
	start, end, hour := u.GetNotificationNoDisturbingStart(), u.GetNotificationNoDisturbingEnd(), int32(now.Hour())
	switch {
	case start == end:
		return true
	case start < end:
		return hour >= start && hour < end
	default:
		return hour >= start || hour < end
	}
}

// summary is the text of a message in one line.
func summary(typ string, payload []byte) string {
	body := gjson.GetBytes(payload, "bodies.0")
	switch typ {
	case "txt":
		return body.Get("msg").Str
	case "loc":
		return "[location] " + body.Get("addr").Str
	case "file":
		return "[file] " + body.Get("filename").Str
	default:
		return "[" + typ + "]"
	}
}
