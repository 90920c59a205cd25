package session

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// A device that goes from one gateway to another must not be shown again what
// it confirmed on the first. A gateway stores what a connection confirmed before
// presence forgets the connection; and one on which a device logs in while
// presence still has a connection of it elsewhere asks that gateway to store it
// before it reads the device's positions.

const (
	// handOnWait bounds how long somebody waits for positions to be stored. After
	// it the device may be shown again what it confirmed.
	handOnWait = 500 * time.Millisecond
	// concurrentHandOns bounds the questions of other gateways in work,
	// waitingHandOns those that wait; each gateway asks concurrentOpens at once.
	concurrentHandOns = 64
	waitingHandOns    = 4096
)

// handOns takes the questions of other gateways.
type handOns struct {
	srv *Server
	ch  chan *natsx.Msg
	sub *natsx.Subscription
}

func (h *handOns) listen() (err error) {
	h.sub, err = h.srv.deps.NATS.SubscribeChan(bus.HandOnSubject(h.srv.cfg.GatewayID), h.ch)
	return err
}

// run answers until ctx ends and waits for what is under way.
func (h *handOns) run(ctx context.Context) {
	var answering sync.WaitGroup
	defer answering.Wait()
	defer func() { _ = h.sub.Unsubscribe() }()
	slots := make(chan struct{}, concurrentHandOns)
	for {
		select {
		case m := <-h.ch:
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			answering.Go(func() {
				defer func() { <-slots }()
				h.answer(ctx, m)
			})
		case <-ctx.Done():
			return
		}
	}
}

// answer answers one question once the positions are stored; without an answer
// the other gateway goes on when it has waited long enough.
func (h *handOns) answer(ctx context.Context, m *natsx.Msg) {
	var of busv1.HandOn
	if err := proto.Unmarshal(m.Data, &of); err != nil {
		h.srv.logger.Error("question of another gateway is unreadable", obs.KeyError, err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOnWait)
	defer cancel()
	user := ident.User{App: ident.NewAppKey(of.GetOrg(), of.GetApp()), ID: ident.UserID(of.GetUser())}
	if !h.srv.flusher.handOn(ctx, user.Device(of.GetResource())) {
		return
	}
	if err := m.Respond(nil); err != nil {
		h.srv.logger.Debug("another gateway was not answered", obs.KeyError, err)
	}
}

// handOn stores what the device confirmed on this connection.
func (c *conn) handOn() {
	ctx, cancel := context.WithTimeout(c.srv.ctx, handOnWait)
	defer cancel()
	c.srv.flusher.handOn(ctx, c.device())
}

// takeOver has the gateway on which the device was before store what it
// confirmed there. When that gateway is gone or does not answer, the device is
// shown some of it again.
func (c *conn) takeOver() {
	from := c.replaced
	if c.replaced = ""; from == "" || from == c.srv.cfg.GatewayID {
		return
	}
	data, err := proto.Marshal(&busv1.HandOn{Org: c.org, App: c.app, User: string(c.user.ID), Resource: c.resource})
	if err == nil {
		ctx, cancel := context.WithTimeout(c.srv.ctx, handOnWait)
		defer cancel()
		_, err = c.srv.deps.NATS.Request(ctx, bus.HandOnSubject(from), data)
	}
	if err != nil {
		c.srv.logger.Debug("the device's last gateway did not hand on what was confirmed there", "gateway", from, obs.KeyApp, c.user.App, obs.KeyUser, c.user.ID, obs.KeyError, err)
	}
}
