// Package tier holds the tier document: every quota, size, retention and call
// rate of a plan, as data that can change while the system runs. It reads,
// checks, compares and merges documents and compiles them into the form that
// look-ups on hot paths use. No number of a tier stands anywhere else.
package tier

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
)

// Unlimited is what Quota and Size give where the document has null.
const Unlimited = math.MaxInt64

// Names of the quotas: how many of a thing may exist.
const (
	QuotaContactsPerUser    = "contacts_per_user"
	QuotaRegisteredUsers    = "registered_users"
	QuotaOnlineUsers        = "concurrent_online_users"
	QuotaGroups             = "groups"
	QuotaMembersPerGroup    = "members_per_group"
	QuotaGroupsPerUser      = "groups_per_user"
	QuotaChatrooms          = "chatrooms"
	QuotaMembersPerChatroom = "members_per_chatroom"
	QuotaChatroomsPerUser   = "chatrooms_per_user"
)

// Names of the sizes: bytes where the name says bytes, characters (code
// points) where it says chars.
const (
	SizeMessageTxt            = "message_txt_bytes"
	SizeMessageImg            = "message_img_bytes"
	SizeMessageAudio          = "message_audio_bytes"
	SizeMessageVideo          = "message_video_bytes"
	SizeMessageFile           = "message_file_bytes"
	SizeMessageCmd            = "message_cmd_bytes"
	SizeMessageCustom         = "message_custom_bytes"
	SizeMessageLoc            = "message_loc_bytes"
	SizeMessageExt            = "message_ext_bytes"
	SizeUserAttributesPerUser = "user_attributes_bytes_per_user"
	SizeUserAttributesPerApp  = "user_attributes_bytes_per_app"
	SizeGroupName             = "group_name_chars"
	SizeGroupDescription      = "group_description_chars"
	SizeGroupCustom           = "group_custom_chars"
	SizeChatroomName          = "chatroom_name_chars"
	SizeChatroomDescription   = "chatroom_description_chars"
	SizeRoomAttributeKeys     = "chatroom_attribute_keys_per_room"
	SizeRoomAttributesPerApp  = "chatroom_attribute_bytes_per_app"
	SizeRoomAttributeKey      = "chatroom_attribute_key_chars"
	SizeRoomAttributeValue    = "chatroom_attribute_value_chars"
	SizeUpload                = "upload_bytes"
)

// PatternRoomAttributeKey names the pattern that keys of room attributes must
// match.
const PatternRoomAttributeKey = "chatroom_attribute_key"

var (
	quotaNames = []string{
		QuotaContactsPerUser, QuotaRegisteredUsers, QuotaOnlineUsers, QuotaGroups, QuotaMembersPerGroup,
		QuotaGroupsPerUser, QuotaChatrooms, QuotaMembersPerChatroom, QuotaChatroomsPerUser,
	}
	sizeNames = []string{
		SizeMessageTxt, SizeMessageImg, SizeMessageAudio, SizeMessageVideo, SizeMessageFile, SizeMessageCmd,
		SizeMessageCustom, SizeMessageLoc, SizeMessageExt, SizeUserAttributesPerUser, SizeUserAttributesPerApp,
		SizeGroupName, SizeGroupDescription, SizeGroupCustom, SizeChatroomName, SizeChatroomDescription,
		SizeRoomAttributeKeys, SizeRoomAttributesPerApp, SizeRoomAttributeKey, SizeRoomAttributeValue, SizeUpload,
	}
	patternNames = []string{PatternRoomAttributeKey}
)

// Quotas lists the names of all quotas, Sizes those of all sizes.
func Quotas() []string { return slices.Clone(quotaNames) }

// Sizes lists the names of all sizes.
func Sizes() []string { return slices.Clone(sizeNames) }

// Words of a limit.
const (
	PerSecond = "second"
	PerMinute = "minute"

	UnitCall    = "call"
	UnitMessage = "message"

	ScopeApp  = "app"
	ScopeUser = "user"

	ApplyREST   = "rest"
	ApplyClient = "client"
)

// Document is a tier as it is stored and edited. A Document that came out of
// Parse, Merge or Seeds is valid.
type Document struct {
	Name  string `json:"name"`
	Title string `json:"title,omitempty"`
	// Quotas by name; nil is unlimited, 0 means that the tier does not offer
	// the thing.
	Quotas map[string]*int64 `json:"quotas"`
	// RetentionDays is how long history, roaming and offline messages stay;
	// nil is for ever.
	RetentionDays *int64 `json:"retention_days"`
	// Sizes by name; nil is no bound of its own.
	Sizes    map[string]*int64 `json:"sizes"`
	Patterns map[string]string `json:"patterns"`

	RateCounting RateCounting `json:"rate_counting"`
	// SharedBuckets are allowances that several rules draw on.
	SharedBuckets map[string]Bucket `json:"shared_buckets"`
	// Rules by ID. A call without a rule has the default rate.
	Rules      map[string]RuleDocument `json:"rules"`
	Downstream Downstream              `json:"downstream"`
}

// RateCounting says how calls are counted in general.
type RateCounting struct {
	// PerIP adds to each limit per app one for each client address, except for the rules of PerIPExcept.
	PerIP       bool     `json:"per_ip"`
	PerIPExcept []string `json:"per_ip_except"`
	// PerIPPercent makes the limits per address smaller than those per app;
	// nil is 100.
	PerIPPercent *int64 `json:"per_ip_percent,omitempty"`
	// Default holds for each call that has no rule.
	Default LimitDocument `json:"default"`
}

// Bucket is a shared allowance.
type Bucket struct {
	Limits []LimitDocument `json:"limits"`
}

// RuleDocument is the rate of one call: limits of its own, all of which it
// must pass, or the name of a shared bucket.
type RuleDocument struct {
	Bucket string          `json:"bucket,omitempty"`
	Limits []LimitDocument `json:"limits,omitempty"`
	// Alternative records a rate that is stated for the call elsewhere. It is
	// not enforced.
	Alternative []LimitDocument `json:"alternative,omitempty"`
}

// LimitDocument admits Count units in any second or minute.
type LimitDocument struct {
	Count int64  `json:"count"`
	Per   string `json:"per"`
	// Unit is call, or message if a call costs as many as it has targets.
	Unit string `json:"unit"`
	// Scope is app, or user if each user of the app has a count of its own.
	Scope string `json:"scope"`
}

// Downstream caps how many deliveries an app's sends cause in a second: Factor
// times Base. What exceeds that waits; nothing is dropped.
type Downstream struct {
	// Factor nil turns the cap off.
	Factor *int64 `json:"factor"`
	Base   int64  `json:"base"`
	// ApplyTo says whose sends count: rest, client.
	ApplyTo []string `json:"apply_to"`
	// Rules are those that are refused while the backlog is longer than
	// MaxBacklogSeconds.
	Rules             []string `json:"rules"`
	MaxBacklogSeconds int64    `json:"max_backlog_seconds"`
}

// Clone gives an independent copy.
func (d *Document) Clone() *Document {
	c := *d
	c.Quotas = maps.Clone(d.Quotas)
	c.Sizes = maps.Clone(d.Sizes)
	c.Patterns = maps.Clone(d.Patterns)
	c.SharedBuckets = maps.Clone(d.SharedBuckets)
	c.Rules = maps.Clone(d.Rules)
	c.RateCounting.PerIPExcept = slices.Clone(d.RateCounting.PerIPExcept)
	c.Downstream.ApplyTo = slices.Clone(d.Downstream.ApplyTo)
	c.Downstream.Rules = slices.Clone(d.Downstream.Rules)
	return &c
}

// JSON gives the document as it is stored.
func (d *Document) JSON() []byte {
	b, err := json.Marshal(d)
	if err != nil {
		panic("tier: a document of strings and numbers always marshals: " + err.Error())
	}
	return b
}

// JSONIndent is JSON for people.
func (d *Document) JSONIndent() []byte {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		panic("tier: a document of strings and numbers always marshals: " + err.Error())
	}
	return append(b, '\n')
}
