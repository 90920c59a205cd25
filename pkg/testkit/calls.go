package testkit

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// EveryCall makes every call of gRPC services and returns each one's error by
// its method. A request is the method's entry in requests or, where there is
// none, one whose fields are filled by their names from fields.
func EveryCall(ctx context.Context, t testing.TB, conn grpc.ClientConnInterface, services []string,
	requests map[string]proto.Message, fields map[string]any,
) map[string]error {
	t.Helper()
	out := make(map[string]error)
	for _, name := range services {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		require.NoError(t, err)
		methods := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			m := methods.Get(i)
			req := requests[string(m.Name())]
			if req == nil {
				req = filled(t, m.Input().FullName(), fields)
			}
			out[string(m.Name())] = conn.Invoke(ctx, "/"+name+"/"+string(m.Name()), req, newMessage(t, m.Output().FullName()))
		}
	}
	return out
}

func newMessage(t testing.TB, name protoreflect.FullName) proto.Message {
	t.Helper()
	mt, err := protoregistry.GlobalTypes.FindMessageByName(name)
	require.NoError(t, err)
	return mt.New().Interface()
}

func filled(t testing.TB, name protoreflect.FullName, fields map[string]any) proto.Message {
	t.Helper()
	m := newMessage(t, name)
	r := m.ProtoReflect()
	for i := range r.Descriptor().Fields().Len() {
		f := r.Descriptor().Fields().Get(i)
		value, ok := fields[string(f.Name())]
		switch {
		case !ok:
		case f.IsMap():
			for k, v := range value.(map[string]string) {
				r.Mutable(f).Map().Set(protoreflect.ValueOf(k).MapKey(), protoreflect.ValueOf(v))
			}
		case f.IsList():
			for _, v := range value.([]string) {
				r.Mutable(f).List().Append(protoreflect.ValueOf(v))
			}
		default:
			r.Set(f, protoreflect.ValueOf(value))
		}
	}
	return m
}
