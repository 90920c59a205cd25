package entrytype_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/entrytype"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// TestEveryTypeIsSorted fails for a type that is new and not sorted here.
func TestEveryTypeIsSorted(t *testing.T) {
	t.Parallel()
	type traits struct{ message, event, listed, contents, notified bool }
	message := traits{message: true, listed: true, contents: true, notified: true}
	receipt := traits{listed: true}
	want := map[busv1.EntryType]traits{
		busv1.EntryType_ENTRY_TYPE_UNSPECIFIED:  message,
		busv1.EntryType_ENTRY_TYPE_TXT:          message,
		busv1.EntryType_ENTRY_TYPE_IMG:          message,
		busv1.EntryType_ENTRY_TYPE_AUDIO:        message,
		busv1.EntryType_ENTRY_TYPE_VIDEO:        message,
		busv1.EntryType_ENTRY_TYPE_FILE:         message,
		busv1.EntryType_ENTRY_TYPE_LOC:          message,
		busv1.EntryType_ENTRY_TYPE_CMD:          {message: true, listed: true, contents: true},
		busv1.EntryType_ENTRY_TYPE_CUSTOM:       message,
		busv1.EntryType_ENTRY_TYPE_COMBINE:      message,
		busv1.EntryType_ENTRY_TYPE_DELIVERY_ACK: receipt,
		busv1.EntryType_ENTRY_TYPE_READ_ACK:     receipt,
		busv1.EntryType_ENTRY_TYPE_CHANNEL_ACK:  receipt,
		busv1.EntryType_ENTRY_TYPE_RECALL:       receipt,
		busv1.EntryType_ENTRY_TYPE_EDIT:         {listed: true, contents: true},
		busv1.EntryType_ENTRY_TYPE_ROSTER:       {event: true},
		busv1.EntryType_ENTRY_TYPE_EVENT:        {event: true},
	}
	for number, name := range busv1.EntryType_name {
		typ := busv1.EntryType(number)
		w, ok := want[typ]
		require.True(t, ok, name)
		got := traits{
			message: entrytype.IsMessage(typ), event: entrytype.IsEvent(typ), listed: entrytype.IsListed(typ),
			contents: entrytype.HasContents(typ), notified: entrytype.IsNotified(typ),
		}
		require.Equal(t, w, got, name)
		require.Equal(t, w.event, entrytype.CopiesToSender(typ), name)
	}
	require.Equal(t, "m.type < 20", entrytype.SQLIsMessage("m.type"))
	require.Equal(t, "type < 30", entrytype.SQLIsListed("type"))
}
