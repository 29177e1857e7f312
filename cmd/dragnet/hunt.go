package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/ask/detective"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/cli"
	"dragnet/node"
	"dragnet/node/hunt"
	"dragnet/node/hunt/witnesses"
)

// askFlags are the flags of hunt, 'question ask' and 'pattern explain' that say how
// a pattern becomes a question.
type askFlags struct {
	hash, mode, join, style, epoch, from, to string
	bits                                     int
	kdfMemory                                uint32
}

// floor is the number of candidates under which the ambiguity meter warns.
const floor = 100

func (a *askFlags) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.hash, "hash", "linear", "hash of the components: linear, product, product-mod or product-mod:M")
	f.IntVar(&a.bits, "bits", 0, "size of the keys in bits, for linear and product-mod; 0 chooses 19, or fewer for patterns that fix little")
	f.StringVar(&a.mode, "mode", "oprf", "how answers are sealed: oprf (each guess needs the witness) or paper (guesses can be tried offline)")
	cli.CompleteFlag(cmd, "mode", "oprf", "paper")
	f.StringVar(&a.join, "join", "witness", "who joins and/then: each witness over its own log, or the detective over all answers")
	f.StringVar(&a.style, "questions", "hybrid", "how components are named: standard, self-describing or hybrid")
	f.StringVar(&a.epoch, "epoch", "", "day whose salts are used, such as 2026-11-22; keep it when you ask a pattern again (default today, UTC)")
	f.StringVar(&a.from, "from", "", "earliest start of a flow, such as 2026-11-22, 2026-11-22T10:00:00Z or -24h")
	f.StringVar(&a.to, "to", "", "end of the window: flows start before this")
	f.Uint32Var(&a.kdfMemory, "kdf-memory", 8<<10, "cost of a guess in paper mode, KiB of Argon2id memory")
}

// makeConfiguration makes a configuration of the flags, and checks it against p.
func (a *askFlags) makeConfiguration(p *pattern.Pattern) (c detective.Configuration, err error) {
	c = detective.Configuration{Style: detective.Style(a.style), Epoch: a.epoch, KDFMemory: a.kdfMemory, Window: flow.AllTime, Quorum: 1}
	if c.Mode, err = oneOf("--mode", a.mode, map[string]dossier.Mode{"oprf": dossier.OPRF, "paper": dossier.Paper}); err != nil {
		return c, err
	}
	if c.JoinHere, err = oneOf("--join", a.join, map[string]bool{"witness": false, "detective": true}); err != nil {
		return c, err
	}
	styles := map[string]detective.Style{"hybrid": detective.Hybrid, "standard": detective.Standard, "self-describing": detective.SelfDescribing}
	if c.Style, err = oneOf("--questions", a.style, styles); err != nil {
		return c, err
	}
	if c.Epoch == "" {
		c.Epoch = time.Now().UTC().Format(time.DateOnly)
	}
	if c.Mode == dossier.Paper && (c.KDFMemory < dossier.MinKDFMemory || c.KDFMemory > dossier.MaxKDFMemory) {
		return c, fmt.Errorf("--kdf-memory %d: want %d to %d KiB", c.KDFMemory, dossier.MinKDFMemory, dossier.MaxKDFMemory)
	}
	if len(c.Epoch) > dossier.MaxEpoch {
		return c, fmt.Errorf("--epoch is longer than %d bytes; want a day such as 2026-11-22", dossier.MaxEpoch)
	}
	if err := a.fitHash(&c, p); err != nil {
		return c, err
	}
	if a.from != "" {
		if c.Window.From, err = parseTime("--from", a.from); err != nil {
			return c, err
		}
	}
	if a.to != "" {
		if c.Window.To, err = parseTime("--to", a.to); err != nil {
			return c, err
		}
		if c.Window.To == 0 {
			c.Window.To = -1 // 0 would mean no end
		}
		if c.Window.To <= c.Window.From {
			return c, fmt.Errorf("--to %s is not after --from %s", a.to, a.from)
		}
	}
	return c, nil
}

// fitHash sets the hash, with the size of keys that the epoch's salts allow if no
// other was asked for.
func (a *askFlags) fitHash(c *detective.Configuration, p *pattern.Pattern) (err error) {
	bits := a.bits
	if bits == 0 {
		bits = key.FitBits(floor, c.Epoch, detective.Tuples(p))
	}
	c.Hash, err = key.ParseHash(a.hash, bits)
	return err
}

func oneOf[T any](flag, value string, choices map[string]T) (T, error) {
	v, ok := choices[value]
	if !ok {
		return v, fmt.Errorf("%s %q: want %s", flag, value, strings.Join(slices.Sorted(maps.Keys(choices)), " or "))
	}
	return v, nil
}

// parseTime reads a time of the command line: UTC, or an age such as -24h.
func parseTime(flag, s string) (flow.Time, error) { return parseTimeAt(flag, s, time.Now()) }

// parseTimeAt is parseTime; ages count back from now and are cut to seconds.
func parseTimeAt(flag, s string, now time.Time) (flow.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return flow.FromTime(t), nil
		}
	}
	if age, isAge := strings.CutPrefix(s, "-"); isAge {
		if d, err := pattern.ParseWithin(age); err == nil {
			return flow.FromTime(now.Add(-d).Truncate(time.Second)), nil
		}
	}
	return 0, fmt.Errorf("%s %q: want a time such as 2026-11-22T10:00:00Z, a day such as 2026-11-22 (UTC), or an age of at most 366d such as -24h or -7d", flag, s)
}

const patternHelp = `A pattern is made of clues. Each fixes some parts of a flow and leaves one host,
X, open: "in" means the flow came in to X, "out" that X opened it.

  in  src=ADDRESS  sport= dport= proto= state=     the other host is the source
  out dst=ADDRESS  sport= dport= proto= state=     the other host is the destination

Addresses may be prefixes. Several values mean any of them: dport=22,2222, a
range of ports 6660-6669, or @FILE for a list in a file. State is established,
failed, or one of Zeek's conn_state (state=S0,REJ); icmp beside IPv6 addresses is
icmp6, as in Zeek's logs.

  bytes>=10M sent>=1G received<=500 duration>=1h   of each flow; sent is what X sent
  flows>=100 peers>=20 ports>=50                   of all flows of X that match the
                                                   clue: how many, how many different
                                                   other hosts, responder ports

These and the state travel in clear, so they take round numbers (1, 2 or 5 times
a power of ten). A clue with a count is matched from the flow on that reaches it.

Clues combine with and, or, and then[1h] ("later, within an hour, at the same X";
24h if no time is given).

  A and not B                  X fits A, and no flow of X fits B
  A then[1h] not B             ... none within an hour after
  not B then[1h] A             ... none within an hour before
  2 of (A or B or in src=@F)   X fits two of these, each value of a list by itself
  out src=H dst=B              X is H; H is not sent, only what others answer left out

Then binds tighter than and,
and tighter than or; parentheses group.`

func newHunt() *cobra.Command {
	var ask askFlags
	var sources, configs []string
	var quorum int
	var force bool
	var network networkFlags
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "hunt PATTERN --witness [NAME=]SOURCE...",
		Short: "Ask witnesses which hosts fit a pattern, and print the group",
		Long: `Hunt does the detective's job: it asks each witness which hosts fit a pattern
without revealing the pattern, opens the answers that match it, and prints the
group of hosts with what each witness could see.

` + sourceHelp + ` It may
be a pipe, or "-" for standard input, which is copied to a temporary file. It may
also be a data directory; the address of a ClickHouse database, such as
clickhouse://user@host:9000/flows, whose password is read from
DRAGNET_CLICKHOUSE_PASSWORD; or the address of your own node, unix:///PATH or
https://HOST:PORT, which answers from its log. Each is a separate witness.

A SOURCE such as https://203.0.113.1:8443 is a witness of another organisation:
--book lists the key it must hold, --key is ours. Hunt keeps no record; 'dragnet
question ask' does the same on record, over relays, in stages.

` + patternHelp,
		Example: `  dragnet hunt 'out dst=198.51.100.7 proto=udp dport=69' --witness /var/log/zeek
  dragnet hunt 'in src=203.0.113.5 dport=1433 then[1h] out dst=198.51.100.7 proto=udp dport=69' \
    --witness north=north.pcap --witness south=south/conn.log.gz -k 2 -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := pattern.Parse(args[0], pattern.FromDisk)
			if err != nil {
				return cli.Hint(cli.Usage(err), "see 'dragnet hunt --help' for the language of patterns")
			}
			conf, err := node.LoadConfiguration(configs...)
			if err != nil {
				return err
			}
			c := hunt.Configuration{Witness: conf.Witness.Limits, Silent: conf.Site.Silent}
			if c.Detective, err = ask.makeConfiguration(p); err != nil {
				return cli.Usage(err)
			}
			if c.Detective.Quorum = quorum; quorum < 1 {
				return cli.Usage(fmt.Errorf("--quorum %d: want at least 1", quorum))
			}
			if len(sources) == 0 {
				return cli.Hint(cli.Usage(errors.New("no witness to ask")), "name at least one: --witness NAME=FILE")
			}
			if quorum > len(sources) {
				return cli.Usage(fmt.Errorf("--quorum %d: only %s asked, so no host could be believed", quorum, cli.Plural(len(sources), "witness")))
			}
			if remote, err := overNetwork(sources); err != nil {
				return cli.Usage(err)
			} else if remote {
				return huntNetwork(cmd, *output, network, ask.epoch == "", c.Detective, p, sources, force)
			}
			return runHunt(cmd, *output, c, p, sources, force)
		},
	}
	output = cli.OutputFlag(cmd)
	ask.addFlags(cmd)
	network.addFlags(cmd)
	cmd.Flags().StringArrayVarP(&sources, "witness", "w", nil, "[NAME=]SOURCE of a witness; repeat for each")
	cmd.Flags().IntVarP(&quorum, "quorum", "k", 1, "believe a host only if this many witnesses name it")
	cmd.Flags().BoolVar(&force, "force", false, "do not warn about questions that give the pattern away")
	cmd.Flags().StringArrayVar(&configs, "config", nil, "file with the sections site and witness, for all witnesses; repeat to layer")
	return cmd
}

func runHunt(cmd *cobra.Command, f cli.Format, c hunt.Configuration, p *pattern.Pattern, args []string, force bool) error {
	sources, err := witnesses.Open(args)
	if err != nil {
		return err
	}
	progress := cli.NewProgress("reading flows", 0)
	c.Read = func(n int) { progress.Add(int64(n)) }
	stderr := cmd.ErrOrStderr()
	if !force {
		c.Asking = func(asked []detective.MeteredKey) { warnAmbiguity(stderr, c.Detective.Hash, asked) }
	}
	out, err := hunt.Run(cmd.Context(), c, p, sources)
	progress.Done()
	if err != nil {
		return err
	}
	for _, s := range sources {
		for _, problem := range out.Coverage[s.Name].Problems {
			fmt.Fprintf(stderr, "%s: %s\n", s.Name, problem)
		}
		if out.Coverage[s.Name].Flows == 0 {
			fmt.Fprintf(stderr, "%s: holds no flow, so that its answer says nothing about the pattern\n", s.Name)
		}
	}
	return hunt.WriteResult(cmd.OutOrStdout(), f, &out.Result)
}

// warnAmbiguity warns of keys that the ambiguity meter finds too revealing: on
// one's own files that costs nothing, but the question sent to others would say
// too much.
func warnAmbiguity(w io.Writer, h key.Hash, asked []detective.MeteredKey) {
	const shown = 3
	remedy := "fewer --bits leave more"
	if h.Kind != key.Linear {
		remedy = "--hash linear spreads evenly"
	}
	n := 0
	for i := range asked {
		a := &asked[i]
		if a.Hidden() >= floor {
			continue
		}
		if n++; n <= shown {
			fmt.Fprintf(w, "warning: the key of %q leaves a reader only %s; %s\n", a.Clue, formatCandidates(a.Hidden()), remedy)
		}
	}
	if n > shown {
		fmt.Fprintf(w, "warning: %d more keys leave fewer than %d candidates\n", n-shown, floor)
	}
}

func formatCandidates(n float64) string {
	switch {
	case n < 1.5:
		return "1 candidate"
	case n < 1e6:
		return fmt.Sprintf("%.0f candidates", n)
	}
	return fmt.Sprintf("%.2g candidates", n)
}

func formatSecond(t flow.Time) string { return t.Time().Format(time.RFC3339) }
