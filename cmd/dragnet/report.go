package main

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/ask/detective"
	"dragnet/clearinghouse"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/internal/cli"
	"dragnet/wire/identity"
	reportingv1 "dragnet/wire/reporting/v1"
)

func newReport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Report a group to a clearinghouse, withdraw a report, or void reports",
		Args:  cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newReportSubmit(), newReportWithdraw(), newReportVoid())
	return cmd
}

func newReportSubmit() *cobra.Command {
	var where clearingFlags
	var disclose bool
	var holds time.Duration
	var allowFiles []string
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "submit [RESULT]",
		Short: "Report what a hunt found",
		Long: `Submit reports the hosts of a result, as 'dragnet hunt -o json' or
'dragnet question ask -o json' print it, read from RESULT or standard input.
Hosts with private addresses are left out: they mean nothing elsewhere. So are
public resolvers, root name servers, software mirrors, and what --allow lists.

The pattern is sent to the clearinghouse, which merges the reports of one pattern.
It is published only with --disclose, and only if all who report it disclose it:
its addresses may reveal who looked.

Submit again after any error: however many of your reports name a host, your
organisation has one voice on it. Each run is a report of its own, though, which
counts in the day's number of reports, and is withdrawn by its own name.`,
		Example: `  dragnet hunt 'out dst=198.51.100.7 proto=udp dport=69' -w north.pcap -w south.pcap -k 2 -o json |
    dragnet report submit --clearinghouse https://203.0.113.1:8443 --server ed25519:3p7b... --key identity.key`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := cmd.InOrStdin()
			if len(args) == 1 {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			allow := flow.NewAllowList()
			if err := allow.AddFiles(allowFiles...); err != nil {
				return err
			}
			r, err := reportOf(in, allow, time.Now(), holds)
			if err != nil {
				return err
			}
			r.Disclose = disclose
			c, err := where.dialClearinghouse()
			if err != nil {
				return err
			}
			defer c.Close()
			out, err := c.SubmitReports(cmd.Context(), r)
			if err != nil {
				return cli.Hint(err, "submit again: your organisation has one voice on a host, however many of its reports name it")
			}
			return writeOutcome(cmd.OutOrStdout(), *output, r, out[0])
		},
	}
	output = cli.OutputFlag(cmd)
	where.addFlags(cmd, true)
	cmd.Flags().BoolVar(&disclose, "disclose", false, "let the pattern be published")
	cmd.Flags().DurationVar(&holds, "holds", 7*24*time.Hour, "how long the report is valid unless it is withdrawn; at most 2160h")
	cmd.Flags().StringArrayVar(&allowFiles, "allow", nil, "file with addresses and prefixes never to report, one on each line: your own, partners, mirrors")
	return cmd
}

// maxResult bounds the result read, in bytes.
const maxResult = 256 << 20

// reportOf makes a report of the JSON form of a result, without hosts of the allow
// list.
func reportOf(in io.Reader, allow *flow.AllowList, now time.Time, holds time.Duration) (*dossier.Report, error) {
	var result detective.Result
	if err := json.NewDecoder(io.LimitReader(in, maxResult)).Decode(&result); err != nil {
		return nil, cli.Hint(fmt.Errorf("the result cannot be read: %w", err), "want what 'dragnet hunt -o json' prints")
	}
	p, err := pattern.Parse(result.Pattern, pattern.NoFiles)
	if err != nil {
		return nil, cli.Hint(err, "a pattern with lists from files cannot be reported; ask for its values one by one")
	}
	r := &dossier.Report{Made: flow.FromTime(now), Until: flow.FromTime(now.Add(holds)), Asked: uint16(min(len(result.Witnesses), 1<<16-1))}
	if r.Pattern, err = p.Canonical(); err != nil {
		return nil, err
	}
	for i := range result.Hosts {
		h := &result.Hosts[i]
		if _, protected := allow.Protects(h.Addr); protected || !flow.Global(h.Addr) {
			continue
		}
		r.Hosts = append(r.Hosts, dossier.ReportedHost{Addr: h.Addr, Witnesses: uint16(min(countIndependent(h), int(r.Asked))), First: h.FirstSeen, Last: h.LastSeen})
	}
	slices.SortFunc(r.Hosts, func(a, b dossier.ReportedHost) int { return a.Addr.Compare(b.Addr) })
	if len(r.Hosts) == 0 {
		return nil, errors.New("the result names no host with a global address that the allow list leaves in, so there is nothing to report")
	}
	return r, nil
}

// countIndependent counts the independent witnesses that named a host.
func countIndependent(h *detective.Match) int { return cmp.Or(h.Independent, len(h.Witnesses)) }

// submittedReport is what report submit prints as JSON.
type submittedReport struct {
	Report string `json:"report"`
	Status string `json:"status"`
	Reason string `json:"reason"`
	Hosts  int    `json:"hosts"`
}

func writeOutcome(w io.Writer, f cli.Format, r *dossier.Report, o *reportingv1.Outcome) error {
	status := strings.ToLower(strings.TrimPrefix(o.Status.String(), "STATUS_"))
	row := submittedReport{hex.EncodeToString(o.Report), status, o.Reason, len(r.Hosts)}
	err := cli.WriteRows(w, f, cli.Rows[submittedReport]{
		Header: []string{"report", "status", "hosts"}, Cells: [][]string{{row.Report, row.Status, fmt.Sprint(row.Hosts)}}, Items: []submittedReport{row}, Document: row,
	})
	if err == nil && o.Status == reportingv1.Status_STATUS_REFUSED {
		err = fmt.Errorf("the clearinghouse refused the report: %s", o.Reason)
	}
	return err
}

func newReportWithdraw() *cobra.Command {
	var where clearingFlags
	var why string
	cmd := &cobra.Command{
		Use:   "withdraw REPORT",
		Short: "Withdraw a report of your organisation",
		Long: `Withdraw removes a report that your organisation made, under any of its keys. What
only that report supported is no longer published from the next batch on.`,
		Example: "  dragnet report withdraw 4f0c... --why 'our own scanner' --clearinghouse https://203.0.113.1:8443 --server ed25519:3p7b... --key identity.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseReportID(args[0])
			if err != nil {
				return err
			}
			c, err := where.dialClearinghouse()
			if err != nil {
				return err
			}
			defer c.Close()
			return c.WithdrawReport(cmd.Context(), id, why)
		},
	}
	where.addFlags(cmd, true)
	cmd.Flags().StringVar(&why, "why", "", "the reason, for the clearinghouse's operator")
	return cmd
}

func newReportVoid() *cobra.Command {
	var files []string
	var signer, report, group, host, since, why string
	cmd := &cobra.Command{
		Use:   "void --config FILE --why REASON",
		Short: "As the clearinghouse's operator, void reports and publish at once",
		Long: `Void permanently discards all reports that match every given flag, and publishes a
batch without them at once. It works on the clearinghouse's state; the service
may be running. See docs/how-to/revoke.md.

If a key was stolen, revoke it on the roster instead, which voids the reports
received under it since.`,
		Example: `  dragnet report void --config clearinghouse.yaml --group f3kq7c2v --why poisoned
  dragnet report void --config clearinghouse.yaml --signer ed25519:3p7b... --since 2026-03-01T10:00:00Z --why 'wrong sensor'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if why == "" {
				return cli.Usage(errors.New("say why: it is kept with the reports"))
			}
			s, err := voidSelection(signer, report, group, host, since)
			if err != nil {
				return err
			}
			return withCore(cmd.Context(), files, func(h *clearinghouse.Core) error {
				n, err := h.Void(cmd.Context(), s, why)
				if errors.Is(err, clearinghouse.ErrSelection) {
					return cli.Usage(err)
				}
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "%s voided\n", cli.Plural(n, "report"))
				return publishNow(cmd, h)
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&files, "config", nil, "the clearinghouse's configuration; repeat to layer")
	f.StringVar(&why, "why", "", "the reason, kept with the reports")
	f.StringVar(&signer, "signer", "", "reports signed with this public key")
	f.StringVar(&report, "report", "", "this report")
	f.StringVar(&group, "group", "", "reports of the patterns in this published group")
	f.StringVar(&host, "host", "", "reports that name this host")
	f.StringVar(&since, "since", "", "reports received since this time")
	return cmd
}

func voidSelection(signer, report, group, host, since string) (s clearinghouse.ReportSelection, err error) {
	s.Group = group
	if signer != "" {
		p, err := identity.ParsePublic(signer)
		if err != nil {
			return s, cli.Usage(fmt.Errorf("--signer: %w", err))
		}
		s.Signer = p.ID()
	}
	if report != "" {
		if s.Report, err = parseReportID(report); err != nil {
			return s, err
		}
	}
	if host != "" {
		if s.Host, err = netip.ParseAddr(host); err != nil {
			return s, cli.Usage(fmt.Errorf("--host: %w", err))
		}
	}
	s.Since, err = timeFlag("--since", since)
	return s, err
}
