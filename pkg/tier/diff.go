package tier

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

const absent = "(absent)"

// Diff lists what differs between two documents, a line each and in the order
// of the paths: "quotas.groups: 100 -> unlimited".
func Diff(before, after *Document) []string {
	a, b := before.flat(), after.flat()
	paths := maps.Clone(a)
	maps.Copy(paths, b)
	var lines []string
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		x, ok := a[path]
		if !ok {
			x = absent
		}
		y, ok := b[path]
		if !ok {
			y = absent
		}
		if x != y {
			lines = append(lines, fmt.Sprintf("%s: %s -> %s", path, x, y))
		}
	}
	return lines
}

// flat gives every value of the document by its path, in words.
func (d *Document) flat() map[string]string {
	m := map[string]string{
		"name":                           d.Name,
		"title":                          strconv.Quote(d.Title),
		"retention_days":                 amount(d.RetentionDays),
		"rate_counting.per_ip":           strconv.FormatBool(d.RateCounting.PerIP),
		"rate_counting.per_ip_except":    set(d.RateCounting.PerIPExcept),
		"rate_counting.default":          d.RateCounting.Default.String(),
		"downstream.factor":              amount(d.Downstream.Factor),
		"downstream.base":                strconv.FormatInt(d.Downstream.Base, 10),
		"downstream.apply_to":            set(d.Downstream.ApplyTo),
		"downstream.rules":               set(d.Downstream.Rules),
		"downstream.max_backlog_seconds": strconv.FormatInt(d.Downstream.MaxBacklogSeconds, 10),
	}
	if p := d.RateCounting.PerIPPercent; p != nil {
		m["rate_counting.per_ip_percent"] = amount(p)
	}
	for name, v := range d.Quotas {
		m["quotas."+name] = amount(v)
	}
	for name, v := range d.Sizes {
		m["sizes."+name] = amount(v)
	}
	for name, v := range d.Patterns {
		m["patterns."+name] = v
	}
	for name, b := range d.SharedBuckets {
		m["shared_buckets."+name] = limitsText(b.Limits)
	}
	for id, r := range d.Rules {
		if r.Bucket != "" {
			m["rules."+id] = "bucket " + r.Bucket
		} else {
			m["rules."+id] = limitsText(r.Limits)
		}
		if len(r.Alternative) > 0 {
			m["rules."+id+".alternative"] = limitsText(r.Alternative)
		}
	}
	return m
}

// String gives a limit in words: "100 calls/second/app".
func (l LimitDocument) String() string {
	unit := l.Unit
	if l.Count != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s/%s/%s", l.Count, unit, l.Per, l.Scope)
}

func limitsText(limits []LimitDocument) string {
	parts := make([]string, len(limits))
	for i, l := range limits {
		parts[i] = l.String()
	}
	return strings.Join(parts, " and ")
}

func amount(v *int64) string {
	if v == nil {
		return "unlimited"
	}
	return strconv.FormatInt(*v, 10)
}

func set(items []string) string {
	return "[" + strings.Join(slices.Sorted(slices.Values(items)), ", ") + "]"
}
