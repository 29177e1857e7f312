package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/internal/durable"
	"dragnet/wire/identity"
	"dragnet/wire/roster"
)

func newRoster() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "roster",
		Short: "Sign, check and show the list of a community's members",
		Long: `A roster lists the organisations of a community with their keys, and what each
may do. The clearinghouse's operator keeps it as a file of members, in YAML, and
signs it again after each change; all others accept only a version that descends
from the one they hold.`,
		Args: cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newRosterKey(), newRosterSign(), newRosterFetch(), newRosterVerify(), newRosterShow())
	return cmd
}

func newRosterKey() *cobra.Command {
	return &cobra.Command{
		Use:   "key FILE",
		Short: "Make a private key in FILE unless it exists, and print its public half",
		Long: `Key makes a private key that only you may read, unless FILE holds one already,
and prints its public half, which others put on a roster or into a configuration.`,
		Example: "  dragnet roster key /etc/dragnet/identity.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := identity.LoadOrCreate(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), k.Public())
			return err
		},
	}
}

// signOptions are the flags of 'roster sign'.
type signOptions struct {
	key, next, bundle string
	valid             time.Duration
}

func newRosterSign() *cobra.Command {
	var s signOptions
	cmd := &cobra.Command{
		Use:   "sign MEMBERS --key FILE --roster FILE",
		Short: "Sign a file of members as the roster's next version",
		Long: `Sign reads MEMBERS and writes the next version of the roster. To admit a member,
add it; to revoke a key, write since when others may have had it:

  servers: []                 # keys the clearinghouse answers with; empty: the one that signs
  members:
    - name: north
      class: org:north        # members of one class count once
      roles: [ask, report]    # and witness: counted under its class
      as: [64496]
      keys:
        - public: ed25519:3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08
          from: 2026-01-01T00:00:00Z
          until: 2027-01-01T00:00:00Z
          revoked: 2026-03-01T10:00:00Z

Readers rely on a roster for at most --valid, so sign again before it expires:
until then, an attacker who withholds the new one from a reader hides what was
revoked.

With --rotate another key signs from now on; readers who know the old one follow.
That does not help if the signing key was stolen, since the thief can do the same:
distribute the new key to all readers by other means.`,
		Example: `  dragnet roster sign members.yaml --key clearing.key --roster roster.bin
  dragnet roster sign members.yaml --key clearing.key --rotate next.key --roster roster.bin`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if s.key == "" || s.bundle == "" {
				return cli.Usage(errors.New("want --key FILE and --roster FILE"))
			}
			return signRoster(cmd.ErrOrStderr(), args[0], s, time.Now())
		},
	}
	cmd.Flags().StringVar(&s.key, "key", "", "private key that signs ('dragnet roster key' makes one)")
	cmd.Flags().StringVar(&s.bundle, "roster", "", "the signed roster: the version before is read from it, the next one written to it")
	cmd.Flags().StringVar(&s.next, "rotate", "", "private key that signs from now on in place of --key")
	cmd.Flags().DurationVar(&s.valid, "valid", 7*24*time.Hour, "how long readers may rely on it")
	return cmd
}

func signRoster(w io.Writer, members string, s signOptions, now time.Time) error {
	r, err := roster.ReadMembers(members)
	if err != nil {
		return err
	}
	key, err := identity.Load(s.key)
	if err != nil {
		return cli.Hint(err, "'dragnet roster key %s' makes a key", s.key)
	}
	before, err := readBundle(s.bundle)
	if errors.Is(err, fs.ErrNotExist) {
		before, err = nil, nil
	}
	if err != nil {
		return err
	}
	signer := key
	if s.next != "" {
		if signer, err = identity.Load(s.next); err != nil {
			return cli.Hint(err, "'dragnet roster key %s' makes a key", s.next)
		}
	}
	if len(r.Servers) == 0 {
		r.Servers = []identity.Public{signer.Public()}
	}
	r.Issued, r.Expires = now, now.Add(s.valid)
	var b *roster.Bundle
	switch {
	case s.next == "":
		b, err = roster.Sign(key, r, before)
	case before == nil:
		return cli.Usage(fmt.Errorf("--rotate: no roster found at %s; sign one first without --rotate", s.bundle))
	default:
		b, err = roster.Rotate(key, signer, r, before)
	}
	if err != nil {
		return err
	}
	data, err := b.MarshalBinary()
	if err != nil {
		return err
	}
	if err := durable.WriteFile(s.bundle, data, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "signed version %d, good until %s, by %s\n", r.Version, r.Expires.Format(time.RFC3339), signer.Public())
	return err
}

func readBundle(path string) (*roster.Bundle, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b := &roster.Bundle{}
	if err := b.UnmarshalBinary(data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

func newRosterFetch() *cobra.Command {
	var where clearingFlags
	var signer, held string
	cmd := &cobra.Command{
		Use:   "fetch --signer KEY --held FILE",
		Short: "Fetch the newest roster from the clearinghouse and store it",
		Long: `Fetch stores the clearinghouse's roster in FILE if it is signed by KEY or its
successors, is valid now, and descends from the one in FILE; otherwise FILE stays
as it is. Run it daily from a timer: if an attacker withholds new rosters, you
notice when the stored one expires.`,
		Example: "  dragnet roster fetch --signer ed25519:3p7b... --held /var/lib/dragnet/roster.bin --clearinghouse https://203.0.113.1:8443 --server ed25519:4q8c...",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pin, err := parseKeyFlag("signer", signer)
			if err != nil {
				return err
			}
			if held == "" {
				return cli.Usage(errors.New("want --held FILE, where the roster is kept"))
			}
			c, err := where.dialClearinghouse()
			if err != nil {
				return err
			}
			defer c.Close()
			data, err := c.FetchRoster(cmd.Context())
			if err != nil {
				return err
			}
			k, err := roster.NewKeeper(pin, roster.File(held))
			if err != nil {
				return err
			}
			r, err := k.Accept(data, time.Now())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "version %d, good until %s\n", r.Version, r.Expires.Format(time.RFC3339))
			return err
		},
	}
	where.addFlags(cmd, false)
	cmd.Flags().StringVar(&signer, "signer", "", "public key that signs the roster, as learnt by other means")
	cmd.Flags().StringVar(&held, "held", "", "where the roster is kept")
	return cmd
}

func newRosterVerify() *cobra.Command {
	var signer, held string
	cmd := &cobra.Command{
		Use:   "verify ROSTER --signer KEY",
		Short: "Check whether a reader who trusts KEY would accept this roster",
		Long: `Verify checks signature, handovers and expiry, and with --held also that the
roster descends from that one.
Exit code 0: a reader would accept it. 3: it would not. 1: the check could not run.`,
		Example: "  dragnet roster verify roster.bin --signer ed25519:3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pin, err := parseKeyFlag("signer", signer)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			var state snapshot
			if held != "" {
				if state, err = os.ReadFile(held); err != nil {
					return err
				}
			}
			k, err := roster.NewKeeper(pin, &state)
			if err != nil {
				return cli.Found(fmt.Errorf("%s: %w", held, err))
			}
			r, err := k.Accept(data, time.Now())
			if err != nil {
				return cli.Found(fmt.Errorf("%s: %w", args[0], err))
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "version %d of %d members, good until %s, signed by %s\n",
				r.Version, len(r.Members), r.Expires.Format(time.RFC3339), k.Pin())
			return err
		},
	}
	cmd.Flags().StringVar(&signer, "signer", "", "public key of the clearinghouse, as learnt by other means; the first one or a later one")
	cmd.Flags().StringVar(&held, "held", "", "the roster that the reader holds already")
	return cmd
}

// snapshot is a roster.State that saves nothing: acceptance is only tried.
type snapshot []byte

func (s *snapshot) Load() ([]byte, error) { return *s, nil }

func (s *snapshot) Save([]byte) error { return nil }

func newRosterShow() *cobra.Command {
	var signer string
	var output *cli.Format
	cmd := &cobra.Command{
		Use:     "show ROSTER --signer KEY",
		Short:   "List the members and keys of a signed roster",
		Example: "  dragnet roster show roster.bin --signer ed25519:3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08 -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pin, err := parseKeyFlag("signer", signer)
			if err != nil {
				return err
			}
			b, err := readBundle(args[0])
			if err != nil {
				return err
			}
			r, _, err := b.Check(pin)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return cli.WriteRows(cmd.OutOrStdout(), *output, rosterRows(r, time.Now()))
		},
	}
	output = cli.OutputFlag(cmd)
	cmd.Flags().StringVar(&signer, "signer", "", "public key of the clearinghouse")
	return cmd
}

// parseKeyFlag reads the public key that a flag must give.
func parseKeyFlag(flag, value string) (identity.Public, error) {
	if value == "" {
		return identity.Public{}, cli.Hint(cli.Usage(fmt.Errorf("--%s is missing", flag)), "it is the public key of the clearinghouse, such as ed25519:3p7b..., which its operator publishes")
	}
	key, err := identity.ParsePublic(value)
	if err != nil {
		return key, cli.Usage(fmt.Errorf("--%s: %w", flag, err))
	}
	return key, nil
}

// rosterKey is a row of roster show as JSON.
type rosterKey struct {
	Member  string          `json:"member"`
	Class   string          `json:"class"`
	Roles   string          `json:"roles"`
	AS      []uint32        `json:"as"`
	Public  identity.Public `json:"public"`
	From    time.Time       `json:"from"`
	Until   time.Time       `json:"until"`
	Revoked *time.Time      `json:"revoked"`
	Problem string          `json:"problem"`
}

// rosterRows has one row for each key.
func rosterRows(r *roster.Held, now time.Time) cli.Rows[rosterKey] {
	rows := cli.Rows[rosterKey]{Header: []string{"member", "class", "roles", "key", "until", "state"}}
	for _, m := range r.Members {
		for _, k := range m.Keys {
			x := rosterKey{Member: m.Name, Class: m.Class, Roles: m.Roles.String(), AS: m.AS, Public: k.Public, From: k.From, Until: k.Until}
			if !k.Revoked.IsZero() {
				x.Revoked = &k.Revoked
			}
			if _, err := r.May(k.Public.ID(), m.Roles, now); err != nil {
				x.Problem = err.Error()
			}
			rows.Items = append(rows.Items, x)
			rows.Cells = append(rows.Cells, []string{m.Name, m.Class, m.Roles.String(), k.Public.String(), k.Until.Format(time.RFC3339), cmp.Or(x.Problem, "good")})
		}
	}
	rows.Document = struct {
		Version int               `json:"version"`
		Roster  uint64            `json:"roster"`
		Issued  time.Time         `json:"issued"`
		Expires time.Time         `json:"expires"`
		Servers []identity.Public `json:"servers"`
		Items   []rosterKey       `json:"items"`
	}{1, r.Version, r.Issued, r.Expires, r.Servers, append([]rosterKey{}, rows.Items...)}
	return rows
}
