package routes

import (
	"bytes"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	"github.com/chappe-im/chappe/services/gateway/restjson"
)

func attributes() []Route {
	return []Route{
		{
			Method: accountv1.AttributeService_SetUserAttributes_FullMethodName, Rules: []string{"set_user_attributes"},
			Policy: AppOrSelf, Self: "username", NotSelf: notYours,
			Body:   restjson.Body{Decode: decodeAttributes, Form: true, Schema: attributesSchema},
			Answer: Answer{Data: of((*accountv1.SetUserAttributesResponse).GetAttributes)},
		},
		{
			Method: accountv1.AttributeService_GetUserAttributes_FullMethodName, Rules: []string{"get_user_attributes"}, Policy: AppOrUser,
			Answer: Answer{Data: of((*accountv1.GetUserAttributesResponse).GetAttributes)},
		},
		{
			Method: accountv1.AttributeService_GetUserAttributesCapacity_FullMethodName,
			Rules:  []string{"get_user_attributes_capacity"}, Policy: AppOnly,
			Answer: Answer{Data: of((*accountv1.GetUserAttributesCapacityResponse).GetBytes)},
		},
		{
			Method: accountv1.AttributeService_BatchGetUserAttributes_FullMethodName,
			Rules:  []string{"get_users_attributes_batch"}, Policy: AppOrUser,
			Answer: Answer{Data: of(attributesByUser)},
		},
		{
			Method: accountv1.AttributeService_DeleteUserAttributes_FullMethodName, Rules: []string{"delete_user_attributes"},
			Policy: AppOrSelf, Self: "username", NotSelf: notYours,
			Answer: Answer{Data: always(true)},
		},
	}
}

// notYours is the error of a user who changes the attributes of another.
func notYours() error { return errs.Unauthenticated(errs.ReasonMetadata, "auth error") }

func attributesByUser(r *accountv1.BatchGetUserAttributesResponse) map[string]map[string]string {
	all := make(map[string]map[string]string, len(r.GetUsers()))
	for _, u := range r.GetUsers() {
		if all[u.GetUsername()] == nil {
			all[u.GetUsername()] = orEmpty(u.GetAttributes())
		}
	}
	return all
}

// orEmpty returns a map that is not nil.
func orEmpty[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

const attributesSchema = `{"type":"object","additionalProperties":{"oneOf":[{"type":"string"},{"type":"number"},{"type":"boolean"}]}}`

// decodeAttributes takes a form, or a JSON object of strings. curl labels JSON
// as a form, so what looks like JSON is meant as such under either label: a
// form has a "=", and escapes what JSON begins with.
func decodeAttributes(body []byte, form bool, req proto.Message) error {
	m, _ := req.(*accountv1.SetUserAttributesRequest)
	raw, err := restjson.Parse(body)
	o, isObject := restjson.NewObject(raw)
	trimmed := bytes.Trim(body, " \t\r\n")
	switch {
	case err == nil && len(raw) == 0:
		return nil
	case err == nil && isObject:
		return decodeAttributesJSON(o, m)
	case form && bytes.IndexByte(trimmed, '=') >= 0 && bytes.IndexByte([]byte(`{["`), trimmed[0]) < 0:
		return decodeAttributesForm(trimmed, m)
	case err != nil:
		return err
	default:
		return restjson.Invalid()
	}
}

func decodeAttributesJSON(o restjson.Object, m *accountv1.SetUserAttributesRequest) error {
	// Of several fields of one name the last counts, whatever the others are.
	given := make(map[string][]byte)
	for name, value, ok := o.Next(); ok; name, value, ok = o.Next() {
		given[string(name)] = value
	}
	m.Attributes = make(map[string]string, len(given))
	for name, value := range given {
		switch value[0] {
		case '{', '[', 'n':
			return restjson.Invalid()
		default:
			m.Attributes[name] = restjson.Text(value)
		}
	}
	return nil
}

func decodeAttributesForm(raw []byte, m *accountv1.SetUserAttributesRequest) error {
	pairs, err := ParseForm(string(raw))
	if err != nil {
		return restjson.Invalid()
	}
	m.Attributes = make(map[string]string, len(pairs))
	for name, values := range pairs {
		value := values[len(values)-1]
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return restjson.Invalid()
		}
		m.Attributes[name] = value
	}
	return nil
}
