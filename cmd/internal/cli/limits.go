package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

type ruleView struct {
	Rule      string `json:"rule"`
	Scope     string `json:"scope"`
	Used      int64  `json:"used"`
	Limit     int64  `json:"limit"`
	WindowMs  int64  `json:"window_ms"`
	Admitted  int64  `json:"admitted_total"`
	Throttled int64  `json:"throttled_total"`
}

type quotaView struct {
	Quota string `json:"quota"`
	Used  int64  `json:"used"`
	// Limit is null if the quota is unlimited.
	Limit *int64 `json:"limit"`
	// Owner is the user who uses the most of what each user may.
	Owner string `json:"owner,omitempty"`
}

type usageView struct {
	App     string      `json:"app"`
	Backlog int64       `json:"backlog"`
	Rules   []ruleView  `json:"rules"`
	Quotas  []quotaView `json:"quotas"`
}

func limitsCommand() *cobra.Command {
	c := &client{}
	cmd := &cobra.Command{Use: "limits", Short: "See how close an app is to its limits"}
	c.flags(cmd)
	cmd.AddCommand(c.limitsShow())
	return cmd
}

func (c *client) limitsShow() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "show ORG/APP", Short: "Show what an app uses of its limits now", Args: cobra.ExactArgs(1),
		RunE: c.run(func(ctx context.Context, out io.Writer, args []string) error {
			org, app, err := splitApp(args[0])
			if err != nil {
				return err
			}
			resp, err := c.usage.GetUsage(ctx, &limiterv1.GetUsageRequest{Org: org, App: app})
			if err != nil {
				return err
			}
			view := viewUsage(args[0], resp)
			return c.print(out, view, func(t *tabwriter.Writer) { view.table(t, all) })
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "show in the table also the rules that were not used")
	return cmd
}

func viewUsage(app string, resp *limiterv1.GetUsageResponse) usageView {
	v := usageView{App: app, Backlog: resp.GetBacklog(), Rules: []ruleView{}, Quotas: []quotaView{}}
	for _, r := range resp.GetRules() {
		v.Rules = append(v.Rules, ruleView{
			r.GetRule(), r.GetScope(), r.GetUsed(), r.GetLimit(), r.GetWindowMs(), r.GetAdmittedTotal(), r.GetThrottledTotal(),
		})
	}
	for _, q := range resp.GetQuotas() {
		v.Quotas = append(v.Quotas, quotaView{q.GetQuota(), q.GetUsed(), q.Limit, q.GetOwner()})
	}
	return v
}

func (v usageView) table(t *tabwriter.Writer, all bool) {
	row(t, "RULE", "SCOPE", "USED", "LIMIT", "WINDOW", "ADMITTED", "THROTTLED")
	hidden := 0
	for _, r := range v.Rules {
		if !all && r.Used == 0 && r.Admitted == 0 && r.Throttled == 0 {
			hidden++
			continue
		}
		row(t, r.Rule, r.Scope, r.Used, r.Limit, time.Duration(r.WindowMs)*time.Millisecond, r.Admitted, r.Throttled)
	}
	if hidden > 0 {
		row(t, fmt.Sprintf("(%d unused, see --all)", hidden))
	}
	if len(v.Quotas) > 0 {
		row(t)
		row(t, "QUOTA", "HIGHEST", "USED", "LIMIT")
		for _, q := range v.Quotas {
			limit := "unlimited"
			if q.Limit != nil {
				limit = fmt.Sprint(*q.Limit)
			}
			row(t, q.Quota, q.Owner, q.Used, limit)
		}
	}
	row(t)
	row(t, "deliveries waiting:", v.Backlog)
}
