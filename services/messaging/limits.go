package messaging

import (
	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/tier"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// textLimit gives the bytes that a message's texts and ext may have. Media
// messages only name a file, whose own size the upload limits; what they say
// about it may be as long as a text.
func textLimit(app *catalog.App, t busv1.EntryType) int64 {
	switch t {
	case busv1.EntryType_ENTRY_TYPE_CMD:
		return app.Tier.Size(tier.SizeMessageCmd)
	case busv1.EntryType_ENTRY_TYPE_CUSTOM:
		return app.Tier.Size(tier.SizeMessageCustom)
	case busv1.EntryType_ENTRY_TYPE_LOC:
		return app.Tier.Size(tier.SizeMessageLoc)
	default:
		return app.Tier.Size(tier.SizeMessageTxt)
	}
}
