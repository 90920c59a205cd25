package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/chappe-im/chappe/pkg/tier"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

func tierCommand() *cobra.Command {
	c := &client{}
	cmd := &cobra.Command{Use: "tier", Short: "Read tiers and change them while the system runs"}
	c.flags(cmd)
	cmd.AddCommand(c.tierList(), c.tierGet(), c.tierPut(), c.tierDiff(), c.tierDelete(), c.tierHistory(), tierSchema())
	return cmd
}

func (c *client) tierList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List all tiers with their quotas", Args: cobra.NoArgs,
		RunE: c.run(func(ctx context.Context, out io.Writer, _ []string) error {
			resp, err := c.admin.ListTiers(ctx, &limiterv1.ListTiersRequest{})
			if err != nil {
				return err
			}
			docs := make([]*tier.Document, 0, len(resp.GetTiers()))
			for _, t := range resp.GetTiers() {
				d, err := tier.Parse([]byte(t.GetDocument()))
				if err != nil {
					return fmt.Errorf("tier %s: %w", t.GetName(), err)
				}
				docs = append(docs, d)
			}
			return c.print(out, docs, func(t *tabwriter.Writer) {
				row(t, "TIER", "USERS", "FRIENDS", "ONLINE", "GROUPS", "MEMBERS/GROUP", "GROUPS/USER", "ROOMS", "DAYS KEPT", "TITLE")
				for _, d := range docs {
					row(t, d.Name, amount(d.Quotas[tier.QuotaRegisteredUsers]), amount(d.Quotas[tier.QuotaContactsPerUser]),
						amount(d.Quotas[tier.QuotaOnlineUsers]), amount(d.Quotas[tier.QuotaGroups]),
						amount(d.Quotas[tier.QuotaMembersPerGroup]), amount(d.Quotas[tier.QuotaGroupsPerUser]),
						amount(d.Quotas[tier.QuotaChatrooms]), amount(d.RetentionDays), d.Title)
				}
			})
		}),
	}
}

func amount(n *int64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatInt(*n, 10)
}

func (c *client) tierGet() *cobra.Command {
	return &cobra.Command{
		Use: "get NAME", Short: "Print a tier's document, fit for chappe tier put", Args: cobra.ExactArgs(1),
		RunE: c.run(func(ctx context.Context, out io.Writer, args []string) error {
			doc, err := c.document(ctx, args[0])
			if err != nil {
				return err
			}
			_, err = out.Write(doc.JSONIndent())
			return err
		}),
	}
}

func (c *client) document(ctx context.Context, name string) (*tier.Document, error) {
	resp, err := c.admin.GetTier(ctx, &limiterv1.GetTierRequest{Name: name})
	if err != nil {
		return nil, err
	}
	return tier.Parse([]byte(resp.GetTier().GetDocument()))
}

func (c *client) tierPut() *cobra.Command {
	var file string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "put [NAME] -f FILE", Short: "Check a tier's document and put it in force", Args: cobra.MaximumNArgs(1),
	}
	cmd.RunE = c.run(func(ctx context.Context, out io.Writer, args []string) error {
		document, err := readFile(cmd, file)
		if err != nil {
			return err
		}
		return c.put(ctx, out, strings.Join(args, ""), document, dryRun)
	})
	cmd.Flags().StringVarP(&file, "file", "f", "", "file with the document, - for the standard input")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would change")
	return cmd
}

func (c *client) put(ctx context.Context, out io.Writer, name, document string, dryRun bool) error {
	resp, err := c.admin.PutTier(ctx, &limiterv1.PutTierRequest{Name: name, Document: document, DryRun: dryRun, Actor: c.who()})
	if err != nil {
		return err
	}
	view := struct {
		Tier     string   `json:"tier"`
		Revision int64    `json:"revision"`
		DryRun   bool     `json:"dry_run"`
		Changes  []string `json:"changes"`
	}{resp.GetTier().GetName(), resp.GetTier().GetRevision(), dryRun, append([]string{}, resp.GetChanges()...)}
	return c.print(out, view, func(t *tabwriter.Writer) {
		for _, line := range view.Changes {
			row(t, line)
		}
		switch {
		case len(view.Changes) == 0:
			row(t, "nothing changes")
		case dryRun:
			row(t, fmt.Sprintf("tier %s would change; nothing was written", view.Tier))
		default:
			row(t, fmt.Sprintf("tier %s is in force", view.Tier))
		}
	})
}

func (c *client) tierDiff() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "diff NAME (-f FILE | OTHER)", Short: "Show how a file, or another tier, differs from a tier", Args: cobra.RangeArgs(1, 2),
	}
	cmd.RunE = c.run(func(ctx context.Context, out io.Writer, args []string) error {
		before, err := c.document(ctx, args[0])
		if err != nil {
			return err
		}
		var after *tier.Document
		switch {
		case len(args) == 2 && file != "":
			return fmt.Errorf("name another tier or a file, not both")
		case len(args) == 2:
			after, err = c.document(ctx, args[1])
		default:
			var text string
			if text, err = readFile(cmd, file); err != nil {
				return err
			}
			if after, err = tier.Parse([]byte(text)); err != nil {
				err = fmt.Errorf("the document is not valid:\n%w", err)
			}
		}
		if err != nil {
			return err
		}
		lines := append([]string{}, tier.Diff(before, after)...)
		return c.print(out, lines, func(t *tabwriter.Writer) {
			for _, line := range lines {
				row(t, line)
			}
		})
	})
	cmd.Flags().StringVarP(&file, "file", "f", "", "file with a document, - for the standard input")
	return cmd
}

func (c *client) tierDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete a tier that no app has", Args: cobra.ExactArgs(1),
		RunE: c.run(func(ctx context.Context, out io.Writer, args []string) error {
			if _, err := c.admin.DeleteTier(ctx, &limiterv1.DeleteTierRequest{Name: args[0], Actor: c.who()}); err != nil {
				return err
			}
			return c.print(out, map[string]string{"deleted": args[0]}, func(t *tabwriter.Writer) { row(t, "tier", args[0], "is deleted") })
		}),
	}
}

// changeView is an entry of the history in the output.
type changeView struct {
	Timestamp int64    `json:"timestamp"`
	Actor     string   `json:"actor"`
	Subject   string   `json:"subject"`
	Details   []string `json:"details"`
}

func (c *client) tierHistory() *cobra.Command {
	var limit int32
	cmd := &cobra.Command{
		Use: "history [NAME | ORG/APP]", Short: "Show who changed what of the tiers and apps, newest first", Args: cobra.MaximumNArgs(1),
		RunE: c.run(func(ctx context.Context, out io.Writer, args []string) error {
			subject := ""
			if len(args) == 1 {
				subject = "tier/" + args[0]
				if strings.Contains(args[0], "/") {
					subject = "app/" + args[0]
				}
			}
			resp, err := c.admin.ListChanges(ctx, &limiterv1.ListChangesRequest{Subject: subject, Limit: limit})
			if err != nil {
				return err
			}
			views := make([]changeView, 0, len(resp.GetChanges()))
			for _, x := range resp.GetChanges() {
				views = append(views, changeView{x.GetTimestamp(), x.GetActor(), x.GetSubject(), x.GetDetails()})
			}
			return c.print(out, views, func(t *tabwriter.Writer) {
				row(t, "WHEN", "WHO", "WHAT", "CHANGE")
				for _, v := range views {
					for i, d := range v.Details {
						if i == 0 {
							row(t, when(v.Timestamp), v.Actor, v.Subject, d)
						} else {
							row(t, "", "", "", d)
						}
					}
				}
			})
		}),
	}
	cmd.Flags().Int32Var(&limit, "limit", 50, "how many changes")
	return cmd
}

func tierSchema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of tier documents", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !json.Valid(tier.Schema()) {
				return fmt.Errorf("the schema is damaged")
			}
			_, err := cmd.OutOrStdout().Write(tier.Schema())
			return err
		},
	}
}
