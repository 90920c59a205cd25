package messaging

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/tidwall/gjson"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/content"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/names"
	"github.com/chappe-im/chappe/pkg/natsx"
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
	pushConsumer  = "push"
	pushBatch     = 100
	pushWait      = time.Second
	pushKept      = 24 * time.Hour
	pushCacheSize = 50_000
	pushCacheAge  = 30 * time.Second
	// maxKeptSettings bounds the conversations of a user whose settings are kept.
	maxKeptSettings = 50
	// presenceBatch is how many users presence answers for at once.
	presenceBatch = 100
)

// Keys of ext that speak to the push layer (wire contract, sending).
const (
	extForce  = "em_force_notification"
	extIgnore = "em_ignore_notification"
)

// pusher turns one partition's messages to users who are not connected into
// PushEvents. It reads the log by itself, after the worker or before it, with a
// durable consumer: an event is lost to no crash, and may come twice.
type pusher struct {
	svc       *Service
	partition int
}

// pushSettings are what is known of a user; user is nil if there is none.
type pushSettings struct {
	user  *accountv1.User
	wants *accountv1.LookupPushResponse
}

// ensurePush makes the stream of events, and the consumers of the log, which
// begin at the first start with push events on.
func (s *Service) ensurePush(ctx context.Context) error {
	if err := s.deps.NATS.EnsureStream(ctx, natsx.StreamSpec{
		Name: bus.PushStream, Subjects: []string{bus.PushFilter}, MaxAge: pushKept,
		DuplicateWindow: 10 * time.Minute, Replicas: s.cfg.Replicas,
	}); err != nil {
		return err
	}
	for p := range s.cfg.Partitions {
		if _, err := s.deps.NATS.DurableConsumer(ctx, bus.LogStream(p), pushConsumer); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) runPusher(ctx context.Context, partition int) {
	p := &pusher{svc: s, partition: partition}
	for ctx.Err() == nil {
		if err := p.work(ctx); err != nil && ctx.Err() == nil {
			s.deps.Logger.Warn("push events wait", "partition", partition, "error", err)
			sleep(ctx, time.Second)
		}
	}
}

func (p *pusher) work(ctx context.Context) error {
	source, err := p.svc.deps.NATS.DurableConsumer(ctx, bus.LogStream(p.partition), pushConsumer)
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
			more, err := p.record(ctx, m.Data())
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
func (p *pusher) record(ctx context.Context, data []byte) ([]natsx.PubAckFuture, error) {
	var r busv1.LogRecord
	if err := proto.Unmarshal(data, &r); err != nil {
		return nil, nil //nolint:nilerr // the worker reports it
	}
	if !isMessage(r.GetType()) || r.GetType() == busv1.EntryType_ENTRY_TYPE_CMD || r.GetOnlineOnly() || r.GetKind() != busv1.Kind_KIND_USER {
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
	offline, err := p.offline(ctx, &r)
	if err != nil {
		return nil, err
	}
	var acks []natsx.PubAckFuture
	for _, t := range offline {
		known, err := p.settings(ctx, r.GetApp(), t.GetTo())
		if err != nil {
			return nil, err
		}
		user, now := known.user, p.svc.deps.Now().In(p.svc.cfg.zone())
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
			if event.Title, err = p.nickname(ctx, r.GetApp(), r.GetFrom()); err != nil {
				return nil, err
			}
			event.Text = summary(event.Type, payload)
		}
		raw, err := json.Marshal(event)
		if err != nil {
			return nil, errs.Internal(err)
		}
		ack, err := p.svc.deps.NATS.PublishAsync(bus.PushSubject(r.GetApp(), t.GetTo()), raw, "push-"+event.MessageID)
		if err != nil {
			return nil, err
		}
		acks = append(acks, ack)
	}
	return acks, nil
}

// offline gives the targets of a record who are not connected.
func (p *pusher) offline(ctx context.Context, r *busv1.LogRecord) ([]*busv1.LogTarget, error) {
	org, app, _ := names.SplitAppKey(r.GetApp())
	var out []*busv1.LogTarget
	for targets := r.GetTargets(); len(targets) > 0; {
		n := min(presenceBatch, len(targets))
		users := make([]string, n)
		for i, t := range targets[:n] {
			users[i] = t.GetTo()
		}
		resp, err := p.svc.deps.Presence.BatchGetOnlineStatus(ctx, &presencev1.BatchGetOnlineStatusRequest{Org: org, App: app, Usernames: users})
		if err != nil {
			return nil, err
		}
		for i, online := range resp.GetOnline() {
			if !online {
				out = append(out, targets[i])
			}
		}
		targets = targets[n:]
	}
	return out, nil
}

// settings returns what is known of a user.
func (p *pusher) settings(ctx context.Context, appKey, name string) (pushSettings, error) {
	key := ident.User{App: ident.AppKey(appKey), ID: ident.UserID(name)}
	known, mark, ok := p.svc.pushUsers.Get(key)
	if ok {
		return known, nil
	}
	org, app, _ := names.SplitAppKey(appKey)
	resp, err := p.svc.deps.Users.GetUser(ctx, &accountv1.GetUserRequest{Org: org, App: app, Username: name})
	if err != nil && !errs.Is(err, errs.ReasonNotFound) {
		return pushSettings{}, err
	}
	s := pushSettings{user: resp.GetUser()}
	if s.user != nil {
		s.wants, err = p.svc.deps.Push.LookupPush(ctx, &accountv1.LookupPushRequest{Org: org, App: app, Username: name})
		if err != nil {
			return pushSettings{}, err
		}
	}
	if len(s.wants.GetUsers())+len(s.wants.GetGroups()) <= maxKeptSettings {
		p.svc.pushUsers.Put(key, mark, s)
	}
	return s, nil
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

// nickname is what a recipient is shown of a sender.
func (p *pusher) nickname(ctx context.Context, app, name string) (string, error) {
	if name == names.AdminUser {
		return name, nil
	}
	s, err := p.settings(ctx, app, name)
	if err != nil {
		return "", err
	}
	if s.user.GetNickname() != "" {
		return s.user.GetNickname(), nil
	}
	return name, nil
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
	start, end, hour := u.GetNotificationNoDisturbingStart(), u.GetNotificationNoDisturbingEnd(), int32(now.Hour()) //nolint:gosec // 0 to 23
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
