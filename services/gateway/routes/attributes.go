package routes

import (
	"github.com/chappe-im/chappe/pkg/errs"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

// notYours is the error of a user who changes the attributes of another.
func notYours() error { return errs.Unauthenticated(errs.ReasonMetadata, "auth error") }

// Answers about attributes have times and data, nothing else.
func attributes() Table {
	t := make(Table)
	add(t, Route{
		Method: accountv1.AttributeService_SetUserAttributes_FullMethodName, Rules: []string{"set_user_attributes"},
		Policy: AppOrSelf, Self: "username", NotSelf: notYours,
	}, func(e *Envelope, _ *accountv1.SetUserAttributesRequest, resp *accountv1.SetUserAttributesResponse) {
		e.name("data")
		e.stringMap(resp.GetAttributes())
		e.times()
	})
	add(t, Route{
		Method: accountv1.AttributeService_GetUserAttributes_FullMethodName, Rules: []string{"get_user_attributes"}, Policy: AppOrUser,
	}, func(e *Envelope, _ *accountv1.GetUserAttributesRequest, resp *accountv1.GetUserAttributesResponse) {
		e.name("data")
		e.stringMap(resp.GetAttributes())
		e.times()
	})
	add(t, Route{
		Method: accountv1.AttributeService_GetUserAttributesCapacity_FullMethodName,
		Rules:  []string{"get_user_attributes_capacity"}, Policy: AppOnly,
	}, func(e *Envelope, _ *accountv1.GetUserAttributesCapacityRequest, resp *accountv1.GetUserAttributesCapacityResponse) {
		e.int("data", resp.GetBytes())
		e.times()
	})
	add(t, Route{
		Method: accountv1.AttributeService_BatchGetUserAttributes_FullMethodName,
		Rules:  []string{"get_users_attributes_batch"}, Policy: AppOrUser,
	}, func(e *Envelope, _ *accountv1.BatchGetUserAttributesRequest, resp *accountv1.BatchGetUserAttributesResponse) {
		e.begin("data", '{')
		seen := make(map[string]bool, len(resp.GetUsers()))
		for _, u := range resp.GetUsers() {
			if seen[u.GetUsername()] {
				continue
			}
			e.key(len(seen), u.GetUsername())
			e.stringMap(u.GetAttributes())
			seen[u.GetUsername()] = true
		}
		e.end('}')
		e.times()
	})
	add(t, Route{
		Method: accountv1.AttributeService_DeleteUserAttributes_FullMethodName, Rules: []string{"delete_user_attributes"},
		Policy: AppOrSelf, Self: "username", NotSelf: notYours,
	}, func(e *Envelope, _ *accountv1.DeleteUserAttributesRequest, _ *accountv1.DeleteUserAttributesResponse) {
		e.bool("data", true)
		e.times()
	})
	return t
}
