package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/cli"
	"dragnet/node/centre"
	"dragnet/signature/match"
	"dragnet/signature/sequence"
)

// matchOptions are flags of the commands that match signatures.
type matchOptions struct {
	paths, trust []string
	toServer     bool
	keep         string
}

func (o *matchOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVarP(&o.paths, "signature", "s", nil, "signature file; may be repeated")
	f.StringSliceVar(&o.trust, "trust", nil, "accept only signatures sealed by this Ed25519 public key (PEM); may be repeated")
	f.BoolVar(&o.toServer, "to-server", true, "of connections in captures, compare only what clients sent")
}

// open reads the signatures that are in use or on probation.
func (o *matchOptions) open(cmd *cobra.Command) (usable []*dossier.Signature, err error) {
	all, err := openSignatures(o.paths, o.trust)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, s := range all {
		if names[s.Name] {
			return nil, cli.Usage(fmt.Errorf("two signatures are named %s", s.Name))
		}
		names[s.Name] = true
		if status := s.StatusAt(time.Now()); status.IsMatched() {
			usable = append(usable, s)
		} else {
			fmt.Fprintf(cmd.ErrOrStderr(), "signature %s is left out: its status is %s\n", s.Name, status)
		}
	}
	if len(usable) == 0 {
		return nil, errors.New("no signature is in use")
	}
	return usable, nil
}

// mostHeld bounds what is held of open sequences, in bytes; the oldest end early beyond.
const mostHeld = 256 << 20

// keepEvery is how often findings are kept while a stream lasts.
const keepEvery = 10 * time.Second

// matchRun prints matches as they are found.
type matchRun struct {
	cmd     *cobra.Command
	options *matchOptions
	matcher *match.Matcher
	about   map[string]*dossier.Signature
	prompt  bool // judge with each packet
	rows    cli.Rows[matchedItem]
	out     *cli.RowWriter[matchedItem]
	failed  error // of writing

	matches   int
	probation map[string]int // matches of signatures on probation
	open      map[*matchedSequence]bool
	held      int
	cut       int // sequences that ended early
	findings  map[string]*dossier.Finding
	kept      time.Time
	homeless  int // matches that name no host
}

func newMatchRun(cmd *cobra.Command, o *matchOptions, m *match.Matcher, signatures []*dossier.Signature, prompt bool, f cli.Format) *matchRun {
	r := &matchRun{cmd: cmd, options: o, matcher: m, prompt: prompt, about: map[string]*dossier.Signature{}, probation: map[string]int{},
		open: map[*matchedSequence]bool{}, findings: map[string]*dossier.Finding{}, kept: time.Now(),
		rows: cli.Rows[matchedItem]{Header: []string{"sequence", "signature", "at", "omega", "exact"}}}
	for _, s := range signatures {
		r.about[s.Name] = s
	}
	if prompt {
		r.out = cli.NewRowWriter[matchedItem](cmd.OutOrStdout(), f, r.rows.Header)
	} else {
		r.out = nil
	}
	return r
}

// matchedItem is a match in JSON output.
type matchedItem struct {
	Sequence string `json:"sequence"`
	match.Result
}

// printMatches matches all paths.
func (r *matchRun) printMatches(paths []string) error {
	ctx := r.cmd.Context()
	format := cli.Format(r.cmd.Flag("output").Value.String())
	for _, path := range paths {
		_, err := eachSequence(r.cmd, path, r.openSequence)
		if errors.Is(err, context.Canceled) && r.prompt {
			break // Ctrl-C ends a stream
		}
		if err != nil {
			return err
		}
	}
	if r.out != nil {
		r.failed = errors.Join(r.failed, r.out.End())
	} else {
		r.failed = errors.Join(r.failed, cli.WriteRows(r.cmd.OutOrStdout(), format, r.rows))
	}
	if r.failed != nil {
		return r.failed
	}
	if err := r.keepFindings(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	r.summarise()
	if r.matches > 0 {
		return cli.Found(fmt.Errorf("%d matches", r.matches))
	}
	return nil
}

func (r *matchRun) summarise() {
	say := func(format string, args ...any) { fmt.Fprintf(r.cmd.ErrOrStderr(), format+"\n", args...) }
	for name, n := range r.probation {
		say("signature %s, on probation, matches %s", name, cli.Plural(n, "sequence"))
	}
	if r.cut > 0 {
		say("%s ended early, as %d MB were held", cli.Plural(r.cut, "sequence"), mostHeld>>20)
	}
	if r.options.keep != "" {
		say("%s kept in %s", cli.Plural(len(r.findings), "finding"), r.options.keep)
	}
	if r.homeless > 0 {
		say("%d matches are in files, which name no host, and gave no finding", r.homeless)
	}
}

// keepFindings keeps what was found so far, each finding in place of its former state.
func (r *matchRun) keepFindings(ctx context.Context) error {
	r.kept = time.Now()
	if r.options.keep == "" || len(r.findings) == 0 {
		return nil
	}
	all := make([]dossier.Finding, 0, len(r.findings))
	for _, f := range r.findings {
		all = append(all, *f)
	}
	return keepFindings(ctx, r.options.keep, all)
}

func (r *matchRun) openSequence(name string) sequence.Sink {
	if r.options.toServer && strings.HasSuffix(name, sequence.ToClient) {
		return nil
	}
	return &matchedSequence{Stream: r.matcher.NewStream(), run: r, name: name, reported: map[string]bool{}}
}

// matchedSequence reports each signature once.
type matchedSequence struct {
	*match.Stream
	run      *matchRun
	name     string
	origin   *sequence.Origin
	reported map[string]bool
	ended    bool
}

// Locate implements sequence.Located.
func (s *matchedSequence) Locate(o sequence.Origin) { s.origin = &o }

// Write implements sequence.Sink.
func (s *matchedSequence) Write(p []byte) (int, error) {
	if s.ended {
		return len(p), nil
	}
	r := s.run
	before := s.Held()
	_, _ = s.Stream.Write(p) // never fails
	if r.prompt {
		s.report(s.Verdict())
	}
	r.held += s.Held() - before
	r.open[s] = true
	for other := range r.open { // in random order, so that a sender cannot choose which ends
		if r.held <= mostHeld {
			break
		}
		r.cut++
		other.finish()
	}
	return len(p), nil
}

// End implements sequence.Sink.
func (s *matchedSequence) End() { s.finish() }

func (s *matchedSequence) finish() {
	if s.ended {
		return
	}
	s.ended = true
	s.report(s.Close())
	if s.run.open[s] {
		delete(s.run.open, s)
		s.run.held -= s.Held()
	}
	s.Stream = nil
}

// Lost implements sequence.Sink.
func (s *matchedSequence) Lost(n int64) {
	if !s.ended {
		s.Stream.Lost(n)
	}
}

func (s *matchedSequence) report(all []match.Result) {
	r := s.run
	for i := range all {
		v := &all[i]
		if !v.Match || s.reported[v.Signature] {
			continue
		}
		s.reported[v.Signature] = true
		switch status := r.about[v.Signature].StatusAt(time.Now()); {
		case status == dossier.SignatureOnProbation:
			r.probation[v.Signature]++
			continue
		case !status.IsMatched():
			continue // it expired while the stream lasted
		}
		r.matches++
		r.print(s.name, v)
		if r.options.keep != "" {
			s.find(v)
		}
	}
}

func (r *matchRun) print(name string, v *match.Result) {
	at, omega := "-", "-"
	for _, p := range v.Parts {
		if p.Reached {
			at, omega = strconv.FormatInt(p.At, 10), fmt.Sprintf("%.3f", p.Omega)
			break
		}
	}
	item, cells := matchedItem{name, *v}, []string{name, v.Signature, at, omega, strconv.FormatBool(v.Exact)}
	if r.out != nil {
		r.failed = errors.Join(r.failed, r.out.Write(item, cells))
		return
	}
	r.rows.Items = append(r.rows.Items, item)
	r.rows.Cells = append(r.rows.Cells, cells)
}

// mostFindings bounds the findings of a run.
const mostFindings = 100_000

// find makes a finding of a match in a capture.
func (s *matchedSequence) find(v *match.Result) {
	r := s.run
	if s.origin == nil || len(r.findings) >= mostFindings {
		r.homeless++
		return
	}
	o := s.origin
	x := &dossier.Sighting{Time: o.Now(), Signature: v.Signature, Orig: o.Key.Client, Resp: o.Key.Server, Proto: o.Proto,
		FromResp: o.FromServer, Confirmed: o.Confirmed(), Exact: v.Exact, Count: 1}
	if x.Time < flow.Time(0) {
		r.homeless++ // a capture may say anything
		return
	}
	centre.AddSighting(r.findings, "signature match", x)
	if time.Since(r.kept) >= keepEvery {
		r.failed = errors.Join(r.failed, r.keepFindings(r.cmd.Context()))
	}
}
