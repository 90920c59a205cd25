package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/private"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// demoCredentials is the file with the demo app's credentials: the body of the
// call that gets a token for it.
type demoCredentials struct {
	GrantType    string `json:"grant_type"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// createDemo makes the app demo/chat if there is none, and tells how to use it.
// What it prints may end up in a log, so that the secret is only in a file.
func (s *Server) createDemo(ctx context.Context) error {
	conn, err := s.Conn(TargetLimiter)
	if err != nil {
		return err
	}
	admin := limiterv1.NewAdminServiceClient(conn)
	path := filepath.Join(s.cfg.Data, demoFile)
	_, err = admin.GetApp(ctx, &limiterv1.GetAppRequest{Org: "demo", App: "chat"})
	if errs.Is(err, errs.ReasonAppNotFound) {
		var made *limiterv1.CreateAppResponse
		made, err = admin.CreateApp(ctx, &limiterv1.CreateAppRequest{Org: "demo", App: "chat", Tier: "advanced", Registration: "open", Actor: "demo"})
		if err == nil {
			err = writeDemo(path, made)
		}
	}
	if err != nil {
		return fmt.Errorf("demo app: %w", err)
	}
	return s.tellDemo(path)
}

func writeDemo(path string, made *limiterv1.CreateAppResponse) error {
	//nolint:gosec // a secret in a file for its owner is what is wanted
	raw, err := json.Marshal(demoCredentials{"client_credentials", made.GetApp().GetClientId(), made.GetClientSecret()})
	if err != nil {
		return err
	}
	// One that is left from an earlier app is void.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return private.Create(path, append(raw, '\n'))
}

func (s *Server) tellDemo(path string) error {
	if _, err := os.Stat(path); err != nil {
		_, err = fmt.Fprintf(s.out, "Chappe is ready. There is an app demo/chat, but no file %s with its credentials;\n"+
			"chappe app rotate-secret demo/chat gives it a new secret.\n\n", path)
		return err
	}
	_, err := fmt.Fprintf(s.out, `Chappe is ready. The credentials of its app demo/chat (tier advanced, open registration) are in
%[1]s, which only your user can read.

Register a user, get a token, send a message:

  curl %[3]s/users -d '{"username":"amelia","password":"s3cret-1"}'
  TOKEN=$(curl -s %[3]s/token -d %[2]s | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
  curl %[3]s/messages/users -H "Authorization: Bearer $TOKEN" -d '{"to":["amelia"],"type":"txt","body":{"msg":"hello"}}'

`, path, shellQuote("@"+path), "http://"+s.HTTPAddr()+"/demo/chat")
	return err
}
