package routes

import (
	"slices"

	"google.golang.org/protobuf/proto"

	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	"github.com/chappe-im/chappe/services/gateway/restjson"
)

const ownerParam = "owner_username"

func relations() []Route {
	return slices.Concat(contacts(), contactsInBulk(), contactRequests(), blocks())
}

func contacts() []Route {
	return []Route{
		{
			// Users become friends when both want it: they ask and accept. Only the
			// app can decide it for them.
			Method: accountv1.RelationService_AddContact_FullMethodName, Rules: []string{"add_contact"}, Policy: AppOnly,
			Answer: onList("/contacts", (*accountv1.AddContactResponse).GetOwnerUuid, (*accountv1.AddContactResponse).GetFriend),
		},
		{
			Method: accountv1.RelationService_RemoveContact_FullMethodName, Rules: []string{"remove_contact"},
			Policy: AppOrSelf, Self: ownerParam, Query: []string{"resource"},
			Answer: onList("/contacts", (*accountv1.RemoveContactResponse).GetOwnerUuid, (*accountv1.RemoveContactResponse).GetFriend),
		},
		{
			Method: accountv1.RelationService_ListContacts_FullMethodName, Rules: []string{"list_contacts"},
			Policy: AppOrSelf, Self: ownerParam, Query: []string{"needReturnRemark"},
			Answer: Answer{
				Action: Verb, URI: Self, Entities: value(remarksIfWanted),
				Data: of((*accountv1.ListContactsResponse).GetUsernames), Count: size((*accountv1.ListContactsResponse).GetUsernames),
			},
		},
		{
			Method: accountv1.RelationService_PageContacts_FullMethodName, Unlisted: "page_contacts",
			Policy: AppOrSelf, Self: ownerParam, Query: []string{"limit", "cursor"}, Authorize: remarksForClients,
			Answer: Answer{
				Action: Verb, URI: Self, Entities: none, Count: size((*accountv1.PageContactsResponse).GetContacts),
				Data: value(pageOfContacts), Cursor: of((*accountv1.PageContactsResponse).GetCursor),
			},
		},
		{
			Method: accountv1.RelationService_SetContactRemark_FullMethodName, Unlisted: "set_contact_remark",
			Policy: AppOrSelf, Self: ownerParam,
			Answer: Answer{Status: "ok", Action: Verb, URI: Self, Entities: none, Data: done},
		},
	}
}

// contactsInBulk are the calls of back ends about many contacts, and the one by
// which client SDKs see whether theirs are up to date.
func contactsInBulk() []Route {
	return []Route{
		{
			Method: accountv1.RelationService_ImportContacts_FullMethodName, Unlisted: "import_contacts", Policy: AppOnly,
			Query: []string{"isSendNotice"}, Body: restjson.Body{Hidden: []string{"is_send_notice"}},
			Answer: Answer{Status: "ok", Action: Verb, App: true, URI: Self, Entities: none, Data: of(importOf)},
		},
		{
			Method: accountv1.RelationService_CheckContacts_FullMethodName, Unlisted: "check_contacts", Policy: AppOnly,
			Answer: checked("/contacts/check", (*accountv1.CheckContactsResponse).GetRelations),
		},
		{
			Method: accountv1.RelationService_CheckBlocks_FullMethodName, Unlisted: "check_blocks", Policy: AppOnly,
			Answer: checked("/blocks/check", (*accountv1.CheckBlocksResponse).GetRelations),
		},
		{
			Method: accountv1.RelationService_RemoveAllContacts_FullMethodName, Unlisted: "remove_all_contacts", Policy: AppOnly,
			Answer: Answer{
				Action: Verb, App: true, URI: OfPath, Entities: none,
				Path: value(func(req *accountv1.RemoveAllContactsRequest, _ *accountv1.RemoveAllContactsResponse) string {
					return "/contacts/users/" + req.GetUsername()
				}),
			},
		},
		{
			Method: accountv1.RelationService_GetRosterVersion_FullMethodName, Unlisted: "get_roster_version",
			Policy: AppOrSelf, Self: "username",
			Answer: Answer{Action: Verb, URI: Self, Data: of(func(r *accountv1.GetRosterVersionResponse) rosterVersion {
				return rosterVersion{r.GetVersion(), r.GetTimestamp()}
			})},
		},
	}
}

// remarksForClients tells client SDKs, whose path says users, from server SDKs:
// these take a remark that is there for one that was given, those want one in
// any case.
func remarksForClients(a *Access, req proto.Message) error {
	if r, ok := req.(*accountv1.PageContactsRequest); ok {
		r.AlwaysRemark = Area(a.Pattern) == "users"
	}
	return nil
}

// importResult has every name of an import in one of its lists.
type importResult struct {
	Success   []string `json:"success"`
	NotExist  []string `json:"NotExistFailed"`
	OverLimit []string `json:"maxLimitFailed"`
	Failed    []string `json:"UnKnowFailed"`
}

func importOf(r *accountv1.ImportContactsResponse) importResult {
	same := func(list []string) []string { return each(list, func(s string) string { return s }) } // none is no null
	return importResult{same(r.GetSuccess()), same(r.GetNotExist()), same(r.GetOverLimit()), same(r.GetFailed())}
}

// standing is how a user stands to another.
type standing struct {
	Username string `json:"username"`
	Relation string `json:"relation"`
}

func checked[Resp proto.Message](path string, list func(Resp) []*accountv1.Relation) Answer {
	return Answer{
		Action: Verb, App: true, Path: always(path), URI: OfPath,
		Entities: of(func(r Resp) []standing {
			return each(list(r), func(x *accountv1.Relation) standing { return standing{x.GetUsername(), x.GetRelation()} })
		}),
	}
}

type rosterVersion struct {
	Version   string `json:"version"`
	Timestamp int64  `json:"timestamp"`
}

// contactRequests are the calls of client SDKs by which users become friends.
// Only the device that accepts is named in them, for it knows already what its
// user's other devices are shown.
func contactRequests() []Route {
	return []Route{
		{
			Method: accountv1.RelationService_RequestContacts_FullMethodName, Unlisted: "request_contacts",
			Policy: AppOrSelf, Self: ownerParam, Answer: nothingToTell,
		},
		{
			Method: accountv1.RelationService_AcceptContact_FullMethodName, Unlisted: "accept_contact",
			Policy: AppOrSelf, Self: ownerParam, Query: []string{"resource"}, Answer: nothingToTell,
		},
		{
			Method: accountv1.RelationService_DeclineContact_FullMethodName, Unlisted: "decline_contact",
			Policy: AppOrSelf, Self: ownerParam, Answer: nothingToTell,
		},
	}
}

func blocks() []Route {
	return []Route{
		{
			Method: accountv1.RelationService_ListBlocks_FullMethodName, Rules: []string{"list_user_blocks"},
			Policy: AppOrSelf, Self: ownerParam, Query: []string{"pageSize", "cursor"},
			Answer: Answer{
				Action: Verb, URI: Self, Entities: none,
				Data: of((*accountv1.ListBlocksResponse).GetUsernames), Count: size((*accountv1.ListBlocksResponse).GetUsernames),
				Cursor: of((*accountv1.ListBlocksResponse).GetCursor),
			},
		},
		{
			Method: accountv1.RelationService_AddBlocks_FullMethodName, Rules: []string{"add_user_blocks"},
			Policy: AppOrSelf, Self: ownerParam,
			Answer: Answer{Action: Verb, App: true, URI: OfApp, Entities: none, Data: of((*accountv1.AddBlocksResponse).GetUsernames)},
		},
		{
			Method: accountv1.RelationService_RemoveBlock_FullMethodName, Rules: []string{"remove_user_block"},
			Policy: AppOrSelf, Self: ownerParam,
			Answer: onList("/blocks", (*accountv1.RemoveBlockResponse).GetOwnerUuid, (*accountv1.RemoveBlockResponse).GetUnblocked),
		},
		{
			Method: accountv1.RelationService_RemoveBlocks_FullMethodName, Unlisted: "remove_user_blocks",
			Policy: AppOrSelf, Self: ownerParam,
			Answer: Answer{Action: Verb, App: true, URI: OfApp, Entities: none, Data: of((*accountv1.RemoveBlocksResponse).GetUsernames)},
		},
	}
}

// nothingToTell is the answer of client calls that just succeed.
var nothingToTell = Answer{Action: Verb, URI: Self, Entities: none, Data: done}

// onList is the answer about one user on a list of another, who stands in the
// path by UUID.
func onList[Resp proto.Message](list string, owner func(Resp) string, found func(Resp) *accountv1.User) Answer {
	return Answer{
		Action: Verb, App: true, URI: OfPath, Entities: oneUser(found),
		Path: of(func(r Resp) string { return "/users/" + owner(r) + list }),
	}
}

// contact is a friend with what its owner notes about them.
type contact struct {
	Username string  `json:"username"`
	Remark   *string `json:"remark,omitempty"`
}

// contactOf has a remark in any case.
func contactOf(c *accountv1.Contact) contact {
	remark := c.GetRemark()
	return contact{c.GetUsername(), &remark}
}

func pageOfContacts(req *accountv1.PageContactsRequest, r *accountv1.PageContactsResponse) contactPage {
	return contactPage{each(r.GetContacts(), func(c *accountv1.Contact) contact {
		out := contactOf(c)
		if c.GetRemark() == "" && !req.GetAlwaysRemark() {
			out.Remark = nil
		}
		return out
	}), r.GetCursor()}
}

type contactPage struct {
	Contacts []contact `json:"contacts"`
	Cursor   string    `json:"cursor,omitempty"`
}

// remarksIfWanted is the form in which client SDKs read contacts with remarks.
func remarksIfWanted(req *accountv1.ListContactsRequest, r *accountv1.ListContactsResponse) []contact {
	if !req.GetNeedReturnRemark() {
		return nil
	}
	return each(r.GetContacts(), contactOf)
}
