package routes

import (
	"net/url"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

const ownerParam = "owner_username"

func relations() Table {
	t := make(Table)
	contacts(t)
	contactsInBulk(t)
	contactRequests(t)
	blocks(t)
	return t
}

func contacts(t Table) {
	// Users become friends when both want it: they ask and accept. Only the app
	// can decide it for them.
	add(t, Route{
		Method: accountv1.RelationService_AddContact_FullMethodName, Rules: []string{"add_contact"}, Policy: AppOnly,
	}, func(e *Envelope, _ *accountv1.AddContactRequest, resp *accountv1.AddContactResponse) {
		e.relation(resp.GetOwnerUuid(), "/contacts", resp.GetFriend())
	})
	add(t, Route{
		Method: accountv1.RelationService_RemoveContact_FullMethodName, Rules: []string{"remove_contact"},
		Policy: AppOrSelf, Self: ownerParam, Query: []string{"resource"},
	}, func(e *Envelope, _ *accountv1.RemoveContactRequest, resp *accountv1.RemoveContactResponse) {
		e.relation(resp.GetOwnerUuid(), "/contacts", resp.GetFriend())
	})
	add(t, Route{
		Method: accountv1.RelationService_ListContacts_FullMethodName, Rules: []string{"list_contacts"},
		Policy: AppOrSelf, Self: ownerParam,
	}, func(e *Envelope, _ *accountv1.ListContactsRequest, resp *accountv1.ListContactsResponse) {
		e.action()
		e.selfURI()
		if e.queryIs("needReturnRemark", "true") {
			// The form in which client SDKs read contacts with remarks.
			e.contacts("entities", resp.GetContacts(), true)
		} else {
			e.noEntities()
		}
		e.strings("data", resp.GetUsernames())
		e.times()
		e.int("count", int64(len(resp.GetUsernames())))
	})
	add(t, Route{
		Method: accountv1.RelationService_PageContacts_FullMethodName, Unlisted: "page_contacts",
		Policy: AppOrSelf, Self: ownerParam, Query: []string{"limit", "cursor"},
	}, func(e *Envelope, _ *accountv1.PageContactsRequest, resp *accountv1.PageContactsResponse) {
		e.action()
		e.selfURI()
		e.noEntities()
		e.begin("data", '{')
		// Server SDKs take a remark that is there for one that was given; client
		// SDKs, whose path says users, want one in any case.
		e.contacts("contacts", resp.GetContacts(), strings.HasPrefix(e.inApp(), "/users/"))
		e.cursor(resp.GetCursor())
		e.end('}')
		e.times()
		e.int("count", int64(len(resp.GetContacts())))
		e.cursor(resp.GetCursor())
	})
	add(t, Route{
		Method: accountv1.RelationService_SetContactRemark_FullMethodName, Unlisted: "set_contact_remark",
		Policy: AppOrSelf, Self: ownerParam,
	}, func(e *Envelope, _ *accountv1.SetContactRemarkRequest, _ *accountv1.SetContactRemarkResponse) {
		e.raw("status", `"ok"`)
		e.ok()
	})
}

// contactsInBulk are the calls of back ends about many contacts, and the one by
// which client SDKs see whether theirs are up to date.
func contactsInBulk(t Table) {
	add(t, Route{
		Method: accountv1.RelationService_ImportContacts_FullMethodName, Unlisted: "import_contacts", Policy: AppOnly, Authorize: tellFriends,
	}, func(e *Envelope, _ *accountv1.ImportContactsRequest, resp *accountv1.ImportContactsResponse) {
		e.raw("status", `"ok"`)
		e.action()
		e.app()
		e.selfURI()
		e.noEntities()
		e.begin("data", '{')
		e.strings("success", resp.GetSuccess())
		e.strings("NotExistFailed", resp.GetNotExist())
		e.strings("maxLimitFailed", resp.GetOverLimit())
		e.strings("UnKnowFailed", resp.GetFailed())
		e.end('}')
		e.times()
	})
	add(t, Route{
		Method: accountv1.RelationService_CheckContacts_FullMethodName, Unlisted: "check_contacts", Policy: AppOnly,
	}, func(e *Envelope, _ *accountv1.CheckContactsRequest, resp *accountv1.CheckContactsResponse) {
		e.checked("/contacts/check", resp.GetRelations())
	})
	add(t, Route{
		Method: accountv1.RelationService_CheckBlocks_FullMethodName, Unlisted: "check_blocks", Policy: AppOnly,
	}, func(e *Envelope, _ *accountv1.CheckBlocksRequest, resp *accountv1.CheckBlocksResponse) {
		e.checked("/blocks/check", resp.GetRelations())
	})
	add(t, Route{
		Method: accountv1.RelationService_RemoveAllContacts_FullMethodName, Unlisted: "remove_all_contacts", Policy: AppOnly,
	}, func(e *Envelope, req *accountv1.RemoveAllContactsRequest, _ *accountv1.RemoveAllContactsResponse) {
		e.action()
		e.app()
		e.at("/contacts/users/" + req.GetUsername())
		e.noEntities()
		e.times()
	})
	add(t, Route{
		Method: accountv1.RelationService_GetRosterVersion_FullMethodName, Unlisted: "get_roster_version",
		Policy: AppOrSelf, Self: "username",
	}, func(e *Envelope, _ *accountv1.GetRosterVersionRequest, resp *accountv1.GetRosterVersionResponse) {
		e.action()
		e.selfURI()
		e.begin("data", '{')
		e.str("version", resp.GetVersion())
		e.int("timestamp", resp.GetTimestamp())
		e.end('}')
		e.times()
	})
}

// tellFriends passes on what only the query says.
func tellFriends(a *Access, req proto.Message) error {
	if r, ok := req.(*accountv1.ImportContactsRequest); ok {
		values, err := url.ParseQuery(a.Query)
		if err != nil {
			return errs.Invalid(errs.MessageInvalidRequest)
		}
		r.IsSendNotice = strings.EqualFold(values.Get("isSendNotice"), "true")
	}
	return nil
}

// checked writes how users stand to another.
func (e *Envelope) checked(path string, list []*accountv1.Relation) {
	e.action()
	e.app()
	e.at(path)
	e.begin("entities", '[')
	for i, r := range list {
		e.comma(i)
		e.Open()
		e.str("username", r.GetUsername())
		e.str("relation", r.GetRelation())
		e.Close()
	}
	e.end(']')
	e.times()
}

// contactRequests are the calls of client SDKs by which users become friends.
// Only the device that accepts is named in them, for it knows already what its
// user's other devices are shown.
func contactRequests(t Table) {
	add(t, Route{
		Method: accountv1.RelationService_RequestContacts_FullMethodName, Unlisted: "request_contacts",
		Policy: AppOrSelf, Self: ownerParam,
	}, func(e *Envelope, _ *accountv1.RequestContactsRequest, _ *accountv1.RequestContactsResponse) { e.ok() })
	add(t, Route{
		Method: accountv1.RelationService_AcceptContact_FullMethodName, Unlisted: "accept_contact",
		Policy: AppOrSelf, Self: ownerParam, Query: []string{"resource"},
	}, func(e *Envelope, _ *accountv1.AcceptContactRequest, _ *accountv1.AcceptContactResponse) { e.ok() })
	add(t, Route{
		Method: accountv1.RelationService_DeclineContact_FullMethodName, Unlisted: "decline_contact",
		Policy: AppOrSelf, Self: ownerParam,
	}, func(e *Envelope, _ *accountv1.DeclineContactRequest, _ *accountv1.DeclineContactResponse) { e.ok() })
}

func blocks(t Table) {
	add(t, Route{
		Method: accountv1.RelationService_ListBlocks_FullMethodName, Rules: []string{"list_user_blocks"},
		Policy: AppOrSelf, Self: ownerParam, Query: []string{"pageSize", "cursor"},
	}, func(e *Envelope, _ *accountv1.ListBlocksRequest, resp *accountv1.ListBlocksResponse) {
		e.action()
		e.selfURI()
		e.noEntities()
		e.strings("data", resp.GetUsernames())
		e.times()
		e.int("count", int64(len(resp.GetUsernames())))
		e.cursor(resp.GetCursor())
	})
	add(t, Route{
		Method: accountv1.RelationService_AddBlocks_FullMethodName, Rules: []string{"add_user_blocks"},
		Policy: AppOrSelf, Self: ownerParam,
	}, func(e *Envelope, _ *accountv1.AddBlocksRequest, resp *accountv1.AddBlocksResponse) {
		e.blocked(resp.GetUsernames())
	})
	add(t, Route{
		Method: accountv1.RelationService_RemoveBlock_FullMethodName, Rules: []string{"remove_user_block"},
		Policy: AppOrSelf, Self: ownerParam,
	}, func(e *Envelope, _ *accountv1.RemoveBlockRequest, resp *accountv1.RemoveBlockResponse) {
		e.relation(resp.GetOwnerUuid(), "/blocks", resp.GetUnblocked())
	})
	add(t, Route{
		Method: accountv1.RelationService_RemoveBlocks_FullMethodName, Unlisted: "remove_user_blocks",
		Policy: AppOrSelf, Self: ownerParam,
	}, func(e *Envelope, _ *accountv1.RemoveBlocksRequest, resp *accountv1.RemoveBlocksResponse) {
		e.blocked(resp.GetUsernames())
	})
}

// contacts writes friends with what their owner notes about them; always says
// that an empty remark is written too.
func (e *Envelope) contacts(name string, list []*accountv1.Contact, always bool) {
	e.begin(name, '[')
	for i, c := range list {
		e.comma(i)
		e.Open()
		e.str("username", c.GetUsername())
		if c.GetRemark() != "" || always {
			e.str("remark", c.GetRemark())
		}
		e.Close()
	}
	e.end(']')
}

// blocked writes an answer about several users of a block list.
func (e *Envelope) blocked(usernames []string) {
	e.action()
	e.app()
	e.uri("")
	e.noEntities()
	e.strings("data", usernames)
	e.times()
}

// ok writes the answer of client calls that have nothing to tell.
func (e *Envelope) ok() {
	e.action()
	e.selfURI()
	e.noEntities()
	e.raw("data", `{"result":true}`)
	e.times()
}

// relation writes an answer about one user on a list of another, who stands in
// the path by UUID.
func (e *Envelope) relation(ownerUUID, list string, user *accountv1.User) {
	e.action()
	e.app()
	e.at(pathUsers + "/" + ownerUUID + list)
	e.users(user)
	e.times()
}
