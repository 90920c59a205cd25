package routes

import (
	"slices"

	"google.golang.org/protobuf/proto"

	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

const ownerParam = "owner_username"

func relations() []Route { return slices.Concat(contacts(), contactRequests(), blocks()) }

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
			Policy: AppOrSelf, Self: ownerParam, Query: []string{"limit", "cursor"},
			Answer: Answer{
				Action: Verb, URI: Self, Entities: none, Count: size((*accountv1.PageContactsResponse).GetContacts),
				Data: of(func(r *accountv1.PageContactsResponse) contactPage {
					return contactPage{each(r.GetContacts(), contactOf), r.GetCursor()}
				}),
			},
		},
		{
			Method: accountv1.RelationService_SetContactRemark_FullMethodName, Unlisted: "set_contact_remark",
			Policy: AppOrSelf, Self: ownerParam, Answer: nothingToTell,
		},
	}
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
			Policy: AppOrSelf, Self: ownerParam,
			Answer: Answer{
				Action: Verb, URI: Self, Entities: none,
				Data: of((*accountv1.ListBlocksResponse).GetUsernames), Count: size((*accountv1.ListBlocksResponse).GetUsernames),
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
	Username string `json:"username"`
	Remark   string `json:"remark"`
}

func contactOf(c *accountv1.Contact) contact { return contact{c.GetUsername(), c.GetRemark()} }

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
