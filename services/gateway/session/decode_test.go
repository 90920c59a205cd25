package session

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// full sets every field of a message to something.
func full(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		n := int64(i + 1)
		switch f.Kind() {
		case protoreflect.BoolKind:
			m.Set(f, protoreflect.ValueOfBool(true))
		case protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(string(f.Name())))
		case protoreflect.BytesKind:
			m.Set(f, protoreflect.ValueOfBytes([]byte(f.Name())))
		case protoreflect.EnumKind:
			m.Set(f, protoreflect.ValueOfEnum(1))
		case protoreflect.Uint64Kind:
			m.Set(f, protoreflect.ValueOfUint64(uint64(n)<<40)) // positive
		default:
			m.Set(f, protoreflect.ValueOfInt64(n<<40))
		}
	}
}

func TestDeliveryOfIsTheGeneratedCode(t *testing.T) {
	t.Parallel()
	d := new(busv1.Delivery)
	full(d.ProtoReflect())
	b, err := proto.Marshal(&busv1.Push{What: &busv1.Push_Delivery{Delivery: d}})
	require.NoError(t, err)
	got, ok := deliveryOf(b)
	require.True(t, ok)
	require.True(t, proto.Equal(d, got), "%v", got)
	for i := range b {
		_, ok := deliveryOf(b[:i])
		require.False(t, ok)
	}
	b, err = proto.Marshal(&busv1.Push{What: &busv1.Push_Notice{Notice: &busv1.Notice{Id: 1}}})
	require.NoError(t, err)
	_, ok = deliveryOf(b)
	require.False(t, ok)
}

func FuzzDeliveryOf(f *testing.F) {
	f.Add([]byte{0x0a, 0x02, 0x08, 0x00})
	f.Fuzz(func(_ *testing.T, b []byte) { deliveryOf(b) })
}
