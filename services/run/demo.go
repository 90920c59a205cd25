package run

import (
	"context"
	"fmt"

	"github.com/chappe-im/chappe/pkg/errs"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// createDemo makes the app demo/chat when there is no app at all, and tells
// how to use it. Its secret is shown this once.
func (s *Server) createDemo(ctx context.Context) error {
	conn, err := s.Conn(TargetLimiter)
	if err != nil {
		return err
	}
	admin := limiterv1.NewAdminServiceClient(conn)
	all, err := admin.ListApps(ctx, &limiterv1.ListAppsRequest{})
	if err != nil {
		return err
	}
	if len(all.GetApps()) > 0 {
		return nil
	}
	made, err := admin.CreateApp(ctx, &limiterv1.CreateAppRequest{Org: "demo", App: "chat", Tier: "advanced", Registration: "open"})
	if errs.Is(err, errs.ReasonDuplicate) {
		return nil
	}
	if err != nil {
		return err
	}
	base := "http://" + s.HTTPAddr() + "/demo/chat"
	_, err = fmt.Fprintf(s.out, `Chappe is ready. It made the app demo/chat (tier advanced, open registration):

  client id      %[1]s
  client secret  %[2]s   (shown only now; "chappe app rotate-secret demo/chat" makes a new one)

Register a user, get a token, send a message:

  curl -X POST %[3]s/users -d '{"username":"amelia","password":"s3cret-1"}'
  TOKEN=$(curl -s -X POST %[3]s/token -d '{"grant_type":"client_credentials","client_id":"%[1]s","client_secret":"%[2]s"}' | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
  curl -X POST %[3]s/messages/users -H "Authorization: Bearer $TOKEN" -d '{"to":["amelia"],"type":"txt","body":{"msg":"hello"}}'

`, made.GetApp().GetClientId(), made.GetClientSecret(), base)
	return err
}
