package msync

import (
	"encoding/json"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/chappe-im/chappe/pkg/ident"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// happening is an event with who did it to whom and when.
type happening struct {
	id        int64
	from, to  string
	timestamp int64 // Unix milliseconds
	event     *busv1.Event
}

// encoder says in the client protocol what happened: the name space, the peer
// that clients take it to be from and to, and the payload. Without a payload
// they are not told of it.
type encoder func(app ident.AppKey, viewer ident.UserID, h happening) (meta, error)

// encoders has one entry for each kind of event, by its field of busv1.Event.
var encoders = map[protoreflect.Name]encoder{
	"contact":  contactMeta,
	"presence": presenceMeta,
}

// whatOf is the oneof of busv1.Event.
var whatOf = (&busv1.Event{}).ProtoReflect().Descriptor().Oneofs().ByName("what")

func eventMeta(app ident.AppKey, viewer ident.UserID, h happening) ([]byte, error) {
	kind := h.event.ProtoReflect().WhichOneof(whatOf)
	if kind == nil {
		return nil, fmt.Errorf("event %d is of a kind that this version does not know", h.id)
	}
	m, err := encoders[kind.Name()](app, viewer, h)
	if err != nil || m.payload == nil {
		return nil, err
	}
	m.id, m.timestamp = h.id, h.timestamp
	return m.encode(), nil
}

// contactOperations are the operations for what a user did: as the other user
// is told of it, and as the user's own other devices are, who take it to be from
// the other user. Without one they are not told.
var contactOperations = map[busv1.ContactEvent_Action]struct{ other, own *msyncv1.RosterBody_Operation }{
	busv1.ContactEvent_ACTION_REQUESTED: {other: msyncv1.RosterBody_ADD.Enum()},
	busv1.ContactEvent_ACTION_ACCEPTED:  {other: msyncv1.RosterBody_REMOTE_ACCEPT.Enum(), own: msyncv1.RosterBody_ACCEPT.Enum()},
	busv1.ContactEvent_ACTION_DECLINED:  {other: msyncv1.RosterBody_REMOTE_DECLINE.Enum()},
	busv1.ContactEvent_ACTION_ADDED:     {other: msyncv1.RosterBody_ACCEPT.Enum(), own: msyncv1.RosterBody_ACCEPT.Enum()},
	busv1.ContactEvent_ACTION_REMOVED:   {other: msyncv1.RosterBody_REMOVE.Enum(), own: msyncv1.RosterBody_REMOVE.Enum()},
}

func contactMeta(app ident.AppKey, viewer ident.UserID, h happening) (meta, error) {
	e := h.event.GetContact()
	operations := contactOperations[e.GetAction()]
	from, to, op := h.from, h.to, operations.other
	if h.from == string(viewer) {
		from, to, op = h.to, h.from, operations.own
	}
	if op == nil {
		return meta{}, nil
	}
	jid := func(user string) *msyncv1.JID {
		return &msyncv1.JID{AppKey: proto.String(string(app)), Name: &user, Domain: proto.String(DomainUser)}
	}
	body := &msyncv1.RosterBody{
		Operation: op, From: jid(from), To: []*msyncv1.JID{jid(to)},
		Status: &msyncv1.RosterBody_Status{ErrorCode: msyncv1.RosterBody_Status_OK.Enum()},
	}
	if e.GetReason() != "" {
		body.Reason = proto.String(e.GetReason())
	}
	payload, err := proto.Marshal(body)
	return meta{ns: msyncv1.Meta_ROSTER, from: JID(app, from, DomainUser), to: JID(app, to, DomainUser), payload: payload}, err
}

// presenceChange is a user's presence as clients read it: numbers are strings,
// times are in seconds.
type presenceChange struct {
	Type string `json:"type"`
	Data struct {
		Values [1]presenceValue `json:"values"`
	} `json:"data"`
}

type presenceValue struct {
	Expiry   string            `json:"expiry"`
	UID      string            `json:"uid"`
	LastTime string            `json:"last_time"`
	Ext      string            `json:"ext"`
	Status   map[string]string `json:"status"`
}

func presenceMeta(app ident.AppKey, viewer ident.UserID, h happening) (meta, error) {
	e := h.event.GetPresence()
	status := make(map[string]string, len(e.GetDevices()))
	for _, d := range e.GetDevices() {
		status[d.GetResource()] = d.GetStatus()
	}
	change := presenceChange{Type: "presence"}
	change.Data.Values[0] = presenceValue{
		Expiry: strconv.FormatInt(e.GetExpires()/1000, 10), UID: h.from,
		LastTime: strconv.FormatInt(e.GetChanged()/1000, 10), Ext: e.GetExt(), Status: status,
	}
	// encoding/json writes control characters as \u00XX, so no byte below 0x20
	// occurs; clients cannot read a payload that holds one.
	payload, err := json.Marshal(change)
	return meta{ns: msyncv1.Meta_NOTIFY, from: JID(app, h.from, DomainUser), to: JID(app, string(viewer), DomainUser), payload: payload}, err
}

// LoginEndedMeta returns a field `metas` of a page that tells a device why its
// login ends. Clients have no word for a deactivated account; their next login
// tells.
func LoginEndedMeta(app ident.AppKey, user ident.UserID, id, timestamp int64, why busv1.Disconnect_Reason) ([]byte, error) {
	payload, err := proto.Marshal(&msyncv1.StatisticsBody{Operation: LoginEnded(why).Enum()})
	if err != nil {
		return nil, err
	}
	jid := JID(app, string(user), DomainUser)
	return meta{ns: msyncv1.Meta_STATISTIC, id: id, timestamp: timestamp, from: jid, to: jid, payload: payload}.encode(), nil
}

// LoginEnded returns what clients call the reason for which a login ends.
func LoginEnded(why busv1.Disconnect_Reason) msyncv1.StatisticsBody_Operation {
	switch why {
	case busv1.Disconnect_REASON_REMOVED:
		return msyncv1.StatisticsBody_USER_REMOVED
	case busv1.Disconnect_REASON_OTHER_DEVICE:
		return msyncv1.StatisticsBody_USER_LOGIN_ANOTHER_DEVICE
	case busv1.Disconnect_REASON_PASSWORD_CHANGED:
		return msyncv1.StatisticsBody_USER_KICKED_BY_CHANGE_PASSWORD
	case busv1.Disconnect_REASON_KICKED, busv1.Disconnect_REASON_BANNED, busv1.Disconnect_REASON_UNSPECIFIED:
	}
	return msyncv1.StatisticsBody_USER_KICKED_BY_OTHER_DEVICE
}
