package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/grpcx"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

const (
	// defaultServer is where a server listens for gRPC by default.
	defaultServer = "127.0.0.1:9090"
	// callTimeout bounds a whole command.
	callTimeout = 5 * time.Second

	outputTable = "table"
	outputJSON  = "json"
)

// Commands are those that talk to a running server.
func Commands() []*cobra.Command {
	return []*cobra.Command{appCommand(), tierCommand(), limitsCommand()}
}

// client is what a command needs to talk to a server and to answer.
type client struct {
	server string
	output string
	actor  string
	access access

	conn  *grpc.ClientConn
	admin limiterv1.AdminServiceClient
	usage limiterv1.LimiterServiceClient
}

// flags adds the flags that all commands of a group share.
func (c *client) flags(cmd *cobra.Command) {
	server := os.Getenv("CHAPPE_SERVER")
	if server == "" {
		server = defaultServer
	}
	cmd.PersistentFlags().StringVar(&c.server, "server", server, "gRPC address of a server (CHAPPE_SERVER)")
	c.access.flags(cmd.PersistentFlags())
	cmd.PersistentFlags().StringVarP(&c.output, "output", "o", outputTable, "table or json")
	cmd.PersistentFlags().StringVar(&c.actor, "actor", "", "who makes the change, for the history (default: the user of the system)")
}

// run makes a command's function of one that talks to the server.
func (c *client) run(do func(ctx context.Context, out io.Writer, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if c.output != outputTable && c.output != outputJSON {
			return fmt.Errorf("--output must be %s or %s, not %q", outputTable, outputJSON, c.output)
		}
		access, err := c.access.load()
		if err != nil {
			return err
		}
		conn, err := grpcx.Dial(c.server, access)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		c.conn = conn
		c.admin, c.usage = limiterv1.NewAdminServiceClient(conn), limiterv1.NewLimiterServiceClient(conn)
		parent := cmd.Context()
		if parent == nil {
			parent = context.Background()
		}
		ctx, cancel := context.WithTimeout(parent, callTimeout)
		defer cancel()
		return c.explain(do(ctx, cmd.OutOrStdout(), args))
	}
}

// explain makes an error of a call one for people.
func (c *client) explain(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, grpcx.ErrAccess) {
		return fmt.Errorf("the server at %s does not know this secret: name the data directory of that server with --data, or the file with --grpc-secret-file", c.server)
	}
	switch e := errs.From(err); e.Reason {
	case errs.ReasonUnavailable, errs.ReasonDeadline:
		if e.Cause != nil {
			return fmt.Errorf("cannot reach the server at %s: %w", c.server, e.Cause)
		}
		return fmt.Errorf("the server at %s: %s", c.server, e.Message)
	case errs.ReasonInternal:
		return err
	default:
		return fmt.Errorf("%s", e.Message)
	}
}

// who names the person behind a change.
func (c *client) who() string {
	if c.actor != "" {
		return c.actor
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "cli"
}

// print writes a value as JSON, or as a table.
func (c *client) print(out io.Writer, value any, table func(t *tabwriter.Writer)) error {
	if c.output == outputJSON {
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(value)
	}
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	table(t)
	return t.Flush()
}

// row writes one line of a table.
func row(t io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			_, _ = fmt.Fprint(t, "\t")
		}
		_, _ = fmt.Fprint(t, c)
	}
	_, _ = fmt.Fprintln(t)
}

// splitApp reads ORG/APP.
func splitApp(arg string) (org, app string, err error) {
	org, app, ok := strings.Cut(arg, "/")
	if !ok || org == "" || app == "" || strings.Contains(app, "/") {
		return "", "", fmt.Errorf("%q is not of the form ORG/APP", arg)
	}
	return org, app, nil
}

// readFile reads a file, or the standard input for "-".
func readFile(cmd *cobra.Command, name string) (string, error) {
	if name == "" {
		return "", fmt.Errorf("name a file with -f, or - for the standard input")
	}
	var data []byte
	var err error
	if name == "-" {
		data, err = io.ReadAll(cmd.InOrStdin())
	} else {
		data, err = os.ReadFile(filepath.Clean(name))
	}
	if err != nil {
		return "", fmt.Errorf("read the document: %w", err)
	}
	return string(data), nil
}

func when(unixMillis int64) string {
	return time.UnixMilli(unixMillis).UTC().Format(time.RFC3339)
}
