package account

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/pkg/usercache"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// cacheAge is the longest that an entry is believed: it bounds the harm of a
// lost event.
const cacheAge = 3 * time.Second

// cachedUser is what single-row reads want of a user; what is not known is nil.
//
// Its cache follows this process's own writes at once and those of others by
// their events. Nothing that decides about access is read from it: grants of
// tokens always ask the database.
type cachedUser struct {
	user       *user
	attributes map[string]string
}

func withUser(u *user) func(cachedUser) cachedUser {
	return func(c cachedUser) cachedUser {
		c.user = u
		return c
	}
}

func withAttributes(all map[string]string) func(cachedUser) cachedUser {
	return func(c cachedUser) cachedUser {
		c.attributes = all
		return c
	}
}

// onEvent forgets the user that another instance has changed.
func (s *Service) onEvent(m *natsx.Msg) {
	var e busv1.UserEvent
	if err := proto.Unmarshal(m.Data, &e); err != nil {
		s.logger.Warn("unreadable user event", "subject", m.Subject, obs.KeyError, err)
		s.cache.ForgetAll()
		return
	}
	s.cache.Forget(usercache.Key{App: e.GetApp(), User: e.GetUser()})
}
