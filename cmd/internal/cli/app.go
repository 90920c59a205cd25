package cli

import (
	"context"
	"encoding/json"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// appView is an app in the output of the commands.
type appView struct {
	Org             string          `json:"org"`
	App             string          `json:"app"`
	Tier            string          `json:"tier"`
	UUID            string          `json:"uuid"`
	ClientID        string          `json:"client_id"`
	ClientSecret    string          `json:"client_secret,omitempty"`
	Registration    string          `json:"registration"`
	Created         int64           `json:"created"`
	TokenTTLSeconds int64           `json:"token_ttl_seconds"`
	RESTSendChecks  bool            `json:"rest_send_checks"`
	Overrides       json.RawMessage `json:"overrides,omitempty"`
}

func viewApp(a *limiterv1.App, secret string) appView {
	v := appView{
		Org: a.GetOrg(), App: a.GetApp(), Tier: a.GetTier(), UUID: a.GetUuid(), ClientID: a.GetClientId(),
		ClientSecret: secret, Registration: a.GetRegistration(), Created: a.GetCreated(), TokenTTLSeconds: a.GetTokenTtlSeconds(),
		RESTSendChecks: a.GetSettings().GetRestSendChecks(),
	}
	if o := a.GetOverrides(); o != "" {
		v.Overrides = json.RawMessage(o)
	}
	return v
}

func (v appView) table(t *tabwriter.Writer) {
	row(t, "app", v.Org+"/"+v.App)
	row(t, "tier", v.Tier)
	row(t, "uuid", v.UUID)
	row(t, "client id", v.ClientID)
	if v.ClientSecret != "" {
		row(t, "client secret", v.ClientSecret+"  (shown only now)")
	}
	row(t, "registration", v.Registration)
	row(t, "created", when(v.Created))
	row(t, "token lifetime", v.TokenTTLSeconds, "seconds")
	row(t, "rest send checks", v.RESTSendChecks)
	if v.Overrides != nil {
		row(t, "overrides", string(v.Overrides))
	}
}

func (c *client) printApp(out io.Writer, a *limiterv1.App, secret string) error {
	v := viewApp(a, secret)
	return c.print(out, v, v.table)
}

func appCommand() *cobra.Command {
	c := &client{}
	cmd := &cobra.Command{Use: "app", Short: "Create apps and change them"}
	c.flags(cmd)
	cmd.AddCommand(c.appCreate(), c.appList(), c.appShow(), c.appSetTier(), c.appOverride(), c.appSet(), c.appRotateSecret())
	return cmd
}

func (c *client) appCreate() *cobra.Command {
	var tier, registration string
	cmd := &cobra.Command{
		Use: "create ORG/APP", Short: "Create an app and show its credentials", Args: cobra.ExactArgs(1),
		RunE: c.run(func(ctx context.Context, out io.Writer, args []string) error {
			org, app, err := splitApp(args[0])
			if err != nil {
				return err
			}
			resp, err := c.admin.CreateApp(ctx, &limiterv1.CreateAppRequest{Org: org, App: app, Tier: tier, Registration: registration, Actor: c.who()})
			if err != nil {
				return err
			}
			return c.printApp(out, resp.GetApp(), resp.GetClientSecret())
		}),
	}
	cmd.Flags().StringVar(&tier, "tier", "", "tier of the app, see chappe tier list")
	cmd.Flags().StringVar(&registration, "registration", "authorized", "open: anyone may register users; authorized: only with an app token")
	_ = cmd.MarkFlagRequired("tier")
	return cmd
}

func (c *client) appList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List all apps", Args: cobra.NoArgs,
		RunE: c.run(func(ctx context.Context, out io.Writer, _ []string) error {
			resp, err := c.admin.ListApps(ctx, &limiterv1.ListAppsRequest{})
			if err != nil {
				return err
			}
			views := make([]appView, 0, len(resp.GetApps()))
			for _, a := range resp.GetApps() {
				views = append(views, viewApp(a, ""))
			}
			return c.print(out, views, func(t *tabwriter.Writer) {
				row(t, "APP", "TIER", "REGISTRATION", "CLIENT ID", "CREATED")
				for _, v := range views {
					row(t, v.Org+"/"+v.App, v.Tier, v.Registration, v.ClientID, when(v.Created))
				}
			})
		}),
	}
}

func (c *client) appShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ORG/APP", Short: "Show an app", Args: cobra.ExactArgs(1),
		RunE: c.run(func(ctx context.Context, out io.Writer, args []string) error {
			org, app, err := splitApp(args[0])
			if err != nil {
				return err
			}
			resp, err := c.admin.GetApp(ctx, &limiterv1.GetAppRequest{Org: org, App: app})
			if err != nil {
				return err
			}
			return c.printApp(out, resp.GetApp(), "")
		}),
	}
}

func (c *client) appSetTier() *cobra.Command {
	return &cobra.Command{
		Use: "set-tier ORG/APP TIER", Short: "Move an app to another tier", Args: cobra.ExactArgs(2),
		RunE: c.run(func(ctx context.Context, out io.Writer, args []string) error {
			org, app, err := splitApp(args[0])
			if err != nil {
				return err
			}
			resp, err := c.admin.SetAppTier(ctx, &limiterv1.SetAppTierRequest{Org: org, App: app, Tier: args[1], Actor: c.who()})
			if err != nil {
				return err
			}
			return c.printApp(out, resp.GetApp(), "")
		}),
	}
}

func (c *client) appOverride() *cobra.Command {
	var file string
	var clearAll bool
	cmd := &cobra.Command{
		Use: "override ORG/APP -f FILE", Short: "Put a partial tier document over an app's tier", Args: cobra.ExactArgs(1),
	}
	cmd.RunE = c.run(func(ctx context.Context, out io.Writer, args []string) error {
		org, app, err := splitApp(args[0])
		if err != nil {
			return err
		}
		var overrides string
		if !clearAll {
			if overrides, err = readFile(cmd, file); err != nil {
				return err
			}
		}
		resp, err := c.admin.SetAppOverrides(ctx, &limiterv1.SetAppOverridesRequest{Org: org, App: app, Overrides: overrides, Actor: c.who()})
		if err != nil {
			return err
		}
		return c.printApp(out, resp.GetApp(), "")
	})
	cmd.Flags().StringVarP(&file, "file", "f", "", "file with the overrides, - for the standard input")
	cmd.Flags().BoolVar(&clearAll, "clear", false, "take all overrides away")
	cmd.MarkFlagsMutuallyExclusive("file", "clear")
	return cmd
}

func (c *client) appSet() *cobra.Command {
	var restSendChecks bool
	cmd := &cobra.Command{Use: "set ORG/APP", Short: "Change switches of an app", Args: cobra.ExactArgs(1)}
	cmd.RunE = c.run(func(ctx context.Context, out io.Writer, args []string) error {
		org, app, err := splitApp(args[0])
		if err != nil {
			return err
		}
		req := &limiterv1.SetAppSettingsRequest{Org: org, App: app, Actor: c.who()}
		if cmd.Flags().Changed(flagRESTSendChecks) {
			req.RestSendChecks = &restSendChecks
		}
		resp, err := c.admin.SetAppSettings(ctx, req)
		if err != nil {
			return err
		}
		return c.printApp(out, resp.GetApp(), "")
	})
	cmd.Flags().BoolVar(&restSendChecks, flagRESTSendChecks, false, "refuse sends over REST while their sender is globally muted")
	cmd.MarkFlagsOneRequired(flagRESTSendChecks)
	return cmd
}

const flagRESTSendChecks = "rest-send-checks"

func (c *client) appRotateSecret() *cobra.Command {
	var revoke bool
	cmd := &cobra.Command{
		Use: "rotate-secret ORG/APP", Short: "Give an app a new client secret; the old one is void at once", Args: cobra.ExactArgs(1),
		RunE: c.run(func(ctx context.Context, out io.Writer, args []string) error {
			org, app, err := splitApp(args[0])
			if err != nil {
				return err
			}
			resp, err := c.admin.RotateAppSecret(ctx, &limiterv1.RotateAppSecretRequest{Org: org, App: app, Actor: c.who(), RevokeTokens: revoke})
			if err != nil {
				return err
			}
			return c.printApp(out, resp.GetApp(), resp.GetClientSecret())
		}),
	}
	cmd.Flags().BoolVar(&revoke, "revoke-tokens", false, "also end every token issued so far")
	return cmd
}
