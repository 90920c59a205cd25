package presence

import (
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/tier"
)

// Apps gives the app a request names, with what its plan allows.
type Apps interface {
	App(org, app string) (*catalog.App, bool)
}

// onlineUsersQuota is how many users of an app may be online, or unlimited.
func onlineUsersQuota(app *catalog.App) int64 { return app.Tier.Quota(tier.QuotaOnlineUsers) }

const unlimited = tier.Unlimited

// admission is the lock under which logins of an app with a quota are admitted.
func (s *Service) admission(app string) *sync.Mutex {
	return &s.admit[xxhash.Sum64String(app)%uint64(len(s.admit))]
}
