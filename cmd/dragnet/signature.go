package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/cli"
	"dragnet/signature"
	"dragnet/signature/match"
	"dragnet/signature/sequence"
)

func newSignature() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "signature",
		Short: "Learn signatures of polymorphic worms and match them",
		Long: `Signature learns position-aware distribution signatures (PADS) from samples of a
worm and looks for its variants in files, captures and streams.

  dragnet signature generate worm --family alder --count 100
  dragnet signature generate mixed --family alder --first 1000 --count 200 --benign 200
  dragnet signature learn worm --name alder --clean clean.pcap
  dragnet signature match --signature alder.signature.json --labels mixed.labels.jsonl mixed

A PATH is a folder, a file, a capture (each direction of a connection and each
datagram is a sequence), or - for standard input. Samples are never executed.`,
		RunE: cli.Group,
		Args: cobra.ArbitraryArgs,
	}
	cmd.AddCommand(newSignatureCentre(), newSignatureGenerate(), newSignatureLearn(), newSignatureMatch(), newSignatureCluster(),
		newSignatureShow(), newSignatureExplain(), newSignatureExport(), newSignatureTest(), newSignatureApprove(), newSignatureRetire())
	return cmd
}

// Bounds on the samples held in memory, in bytes.
const (
	maxSample  = 1 << 20
	maxSamples = 512 << 20
)

// samples are sequences, and what they were sent to.
type samples struct {
	sequence.Collector
	services map[sequence.Service]int
}

// service is what nine in ten samples were sent to; nil if there is none.
func (s *samples) service() *dossier.Service {
	for k, n := range s.services {
		if 10*n >= 9*len(s.Sequences) && (k.Proto == flow.TCP || k.Proto == flow.UDP) && k.Port > 0 {
			return &dossier.Service{Proto: strings.ToLower(k.Proto.String()), Port: k.Port}
		}
	}
	return nil
}

// collectSamples reads whole sequences into memory, within bounds; toServer leaves out
// what servers sent in connections.
func collectSamples(cmd *cobra.Command, paths []string, toServer bool) (*samples, error) {
	c := &samples{Collector: sequence.Collector{Most: maxSample, Total: maxSamples}, services: map[sequence.Service]int{}}
	open := c.Open
	if toServer {
		open = func(name string) sequence.Sink {
			if strings.HasSuffix(name, sequence.ToClient) {
				return nil
			}
			return c.Open(name)
		}
	}
	for _, path := range paths {
		report, err := eachSequence(cmd, path, open)
		if err != nil {
			return nil, err
		}
		for k, n := range report.Services {
			c.services[k] += n
		}
	}
	if c.Cut > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d bytes beyond %d MB per sequence and %d MB in total were left out\n", c.Cut, maxSample>>20, maxSamples>>20)
	}
	return c, nil
}

func eachSequence(cmd *cobra.Command, path string, open func(string) sequence.Sink) (sequence.ReadReport, error) {
	coverage, err := sequence.Each(cmd.Context(), path, cmd.InOrStdin(), open, readVault)
	if coverage.Lost > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d bytes are missing from its connections\n", path, coverage.Lost)
	}
	if coverage.Skipped > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d packets or lines skipped, the first: %s\n", path, coverage.Skipped, coverage.Problem)
	}
	if coverage.Records > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d files hold records of a sensor, not payload, and were left out\n", path, coverage.Records)
	}
	return coverage, err
}

func collectClean(cmd *cobra.Command, clean []string, samples [][]byte) (signature.Clean, error) {
	c, err := collectSamples(cmd, clean, false)
	if err != nil {
		return signature.Clean{}, err
	}
	if len(clean) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "no --clean traffic: the background is taken from the samples, and strings of normal traffic may be learnt")
	}
	return signature.NewClean(c.Sequences, samples), nil
}

// openSignatures reads signature files; trust names files of public keys.
func openSignatures(paths, trust []string) ([]*dossier.Signature, error) {
	var keys []ed25519.PublicKey
	for _, path := range trust {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		public, err := dossier.ParsePublicKey(text)
		if err != nil {
			return nil, cli.Hint(fmt.Errorf("%s: %w", path, err), "'openssl pkey -in key.pem -pubout' writes one")
		}
		keys = append(keys, public)
	}
	var all []*dossier.Signature
	for _, path := range paths {
		file, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		s, _, err := dossier.OpenSignature(file, keys...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil, cli.Hint(cli.Usage(errors.New("no signature given")), "name one with --signature FILE")
	}
	return all, nil
}

// isSealed reports whether a signature file has a seal.
func isSealed(path string) (bool, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	_, by, err := dossier.OpenSignature(file)
	return by != nil, err
}

func readPEM(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s has no PEM block", path)
	}
	return block.Bytes, nil
}

// writeSignature writes s, sealed when a key file is given.
func writeSignature(s *dossier.Signature, path, sign string) error {
	var key ed25519.PrivateKey
	if sign != "" {
		der, err := readPEM(sign)
		if err != nil {
			return err
		}
		parsed, err := x509.ParsePKCS8PrivateKey(der)
		private, ok := parsed.(ed25519.PrivateKey)
		if err != nil || !ok {
			return cli.Hint(fmt.Errorf("%s is not an Ed25519 private key", sign), "'openssl genpkey -algorithm ed25519 -out key.pem' makes one")
		}
		key = private
	}
	file, err := dossier.EncodeSignature(s, key)
	if err != nil {
		return err
	}
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".part")
	if err := os.WriteFile(temporary, file, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// matchSequences streams every sequence of path through m.
func matchSequences(cmd *cobra.Command, m *match.Matcher, path string, report func(name string, size int64, v []match.Result)) error {
	_, err := eachSequence(cmd, path, func(name string) sequence.Sink {
		return &judgedSequence{Stream: m.NewStream(), done: func(size int64, v []match.Result) { report(name, size, v) }}
	})
	return err
}

type judgedSequence struct {
	*match.Stream
	size int64
	done func(int64, []match.Result)
}

func (j *judgedSequence) Write(p []byte) (int, error) {
	j.size += int64(len(p))
	return j.Stream.Write(p)
}

func (j *judgedSequence) End() { j.done(j.size, j.Stream.Close()) }
