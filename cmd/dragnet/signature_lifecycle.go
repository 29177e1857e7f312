package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dragnet/dossier"
	"dragnet/internal/cli"
	"dragnet/node/centre"
)

// lifecycleFlags are those of the verbs that decide about a signature.
type lifecycleFlags struct {
	by, why, sign, data string
	trust               []string
}

func (l *lifecycleFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&l.by, "by", "", "who decides")
	f.StringVar(&l.why, "why", "", "the reason, for those who read it later")
	f.StringVar(&l.sign, "sign", "", "Ed25519 private key (PEM) to seal the file with: a change breaks the seal it has")
	f.StringSliceVar(&l.trust, "trust", nil, "accept only a file sealed by this Ed25519 public key (PEM)")
	f.StringVar(&l.data, "data", "", "a node's data directory, or the URL of its PostgreSQL database: SIGNATURE is the name of one that it learnt")
}

// decide keeps a decision about the signature in a file, or of a node.
func (l *lifecycleFlags) decide(cmd *cobra.Command, name string, d dossier.Lifecycle) (err error) {
	if l.by == "" {
		return cli.Usage(errors.New("--by is missing: say who decides"))
	}
	d.By, d.Why, d.At = l.by, l.why, time.Now()
	var s *dossier.Signature
	if l.data != "" {
		if s, err = l.decideAt(cmd, name, d); err != nil {
			return err
		}
	} else {
		all, err := openSignatures([]string{name}, l.trust)
		if err != nil {
			return err
		}
		s = all[0]
		sealed, err := isSealed(name)
		if err != nil {
			return err
		}
		if sealed && l.sign == "" {
			return cli.Hint(fmt.Errorf("%s is sealed, and a change breaks the seal", name), "--sign KEY seals it again")
		}
		if err := s.Decide(d); err != nil {
			return cli.Usage(err)
		}
		if err := writeSignature(s, name, l.sign); err != nil {
			return err
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, version %d, by %s", s.Name, s.StatusAt(time.Now()), s.Lifecycle.Version, cli.Printable(s.Lifecycle.By))
	if e := s.Lifecycle.Expires; !e.IsZero() {
		fmt.Fprintf(cmd.OutOrStdout(), ", until %s", e.Format(time.RFC3339))
	}
	fmt.Fprintln(cmd.OutOrStdout())
	return nil
}

func (l *lifecycleFlags) decideAt(cmd *cobra.Command, name string, d dossier.Lifecycle) (s *dossier.Signature, err error) {
	db, err := openState(cmd.Context(), l.data)
	if err != nil {
		return nil, err
	}
	if err = centre.Migrate(cmd.Context(), db); err == nil {
		s, err = centre.Decide(cmd.Context(), db, name, d)
	}
	return s, errors.Join(err, db.Close())
}

func newSignatureApprove() *cobra.Command {
	var l lifecycleFlags
	var probation bool
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "approve SIGNATURE",
		Short: "Put a signature into use, or on probation, and say who decided",
		Long: `Approve writes into a signature file, or keeps in a node, that the signature is in use, who
decided it, and until when. 'signature match', 'signature export' and the sensors of a
node obey: what a signature on probation matches is only counted, and it is not
exported; one that is retired or has expired is not looked for. A signature about which
nothing was decided is in use.`,
		Example: `  dragnet signature approve worm.signature.json --by alice --probation
  dragnet signature approve worm.signature.json --by alice --for 2160h
  dragnet signature approve trap-tcp-445-0a1b2c3d --data /var/lib/dragnet --by alice`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d := dossier.Lifecycle{Status: dossier.SignatureActive}
			if probation {
				d.Status = dossier.SignatureOnProbation
			}
			if lasts < 0 {
				return cli.Usage(fmt.Errorf("--for %v: must not be negative", lasts))
			}
			if lasts > 0 {
				d.Expires = time.Now().Add(lasts).UTC().Truncate(time.Second)
			}
			return l.decide(cmd, args[0], d)
		},
	}
	l.add(cmd)
	cmd.Flags().BoolVar(&probation, "probation", false, "only count what it matches")
	cmd.Flags().DurationVar(&lasts, "for", 0, "how long the signature is in use; 0 means until it is retired")
	return cmd
}

func newSignatureRetire() *cobra.Command {
	var l lifecycleFlags
	cmd := &cobra.Command{
		Use:   "retire SIGNATURE",
		Short: "Take a signature out of use, and say who decided and why",
		Long: `Retire writes into a signature file, or keeps in a node, that the signature is out of use:
it is not looked for and not exported any more, also when a node learns it again.
'signature approve' puts it back into use. Copies of the file that others have are
not changed, nor are rules that were exported.`,
		Example: `  dragnet signature retire worm.signature.json --by alice --why "matches the backup client"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.decide(cmd, args[0], dossier.Lifecycle{Status: dossier.SignatureRetired})
		},
	}
	l.add(cmd)
	return cmd
}
