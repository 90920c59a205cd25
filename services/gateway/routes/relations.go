package routes

import accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"

const ownerParam = "owner_username"

func relations() Table {
	t := make(Table)
	add(t, Route{
		Method: accountv1.RelationService_AddContact_FullMethodName, Rules: []string{"add_contact"},
		Policy: AppOrSelf, Self: ownerParam,
	}, func(e *Envelope, _ *accountv1.AddContactRequest, resp *accountv1.AddContactResponse) {
		e.relation(resp.GetOwnerUuid(), "/contacts", resp.GetFriend())
	})
	add(t, Route{
		Method: accountv1.RelationService_RemoveContact_FullMethodName, Rules: []string{"remove_contact"},
		Policy: AppOrSelf, Self: ownerParam,
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
			e.begin("entities", '[')
			for i, name := range resp.GetUsernames() {
				e.comma(i)
				e.Open()
				e.str("username", name)
				e.str("remark", "")
				e.Close()
			}
			e.end(']')
		} else {
			e.noEntities()
		}
		e.strings("data", resp.GetUsernames())
		e.times()
		e.int("count", int64(len(resp.GetUsernames())))
	})
	add(t, Route{
		Method: accountv1.RelationService_ListBlocks_FullMethodName, Rules: []string{"list_user_blocks"},
		Policy: AppOrSelf, Self: ownerParam,
	}, func(e *Envelope, _ *accountv1.ListBlocksRequest, resp *accountv1.ListBlocksResponse) {
		e.action()
		e.selfURI()
		e.noEntities()
		e.strings("data", resp.GetUsernames())
		e.times()
		e.int("count", int64(len(resp.GetUsernames())))
	})
	add(t, Route{
		Method: accountv1.RelationService_AddBlocks_FullMethodName, Rules: []string{"add_user_blocks"},
		Policy: AppOrSelf, Self: ownerParam,
	}, func(e *Envelope, _ *accountv1.AddBlocksRequest, resp *accountv1.AddBlocksResponse) {
		e.action()
		e.app()
		e.uri("")
		e.noEntities()
		e.strings("data", resp.GetUsernames())
		e.times()
	})
	add(t, Route{
		Method: accountv1.RelationService_RemoveBlock_FullMethodName, Rules: []string{"remove_user_block"},
		Policy: AppOrSelf, Self: ownerParam,
	}, func(e *Envelope, _ *accountv1.RemoveBlockRequest, resp *accountv1.RemoveBlockResponse) {
		e.relation(resp.GetOwnerUuid(), "/blocks", resp.GetUnblocked())
	})
	return t
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
