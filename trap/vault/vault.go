// Package vault keeps what a trap recorded: each payload once, under its SHA-256
// and encrypted, and one line of JSON a session.
//
//	payloads/ab/abcdef...age   bytes of one side of sessions, encrypted by age
//	sessions/2026-11-26.jsonl  sessions of a day (UTC), which name their payloads
//
// A bound on the bytes, of payloads and lines as they are on disk, holds whatever
// is sent, and the first copy of what a honeypot sent is never removed for it:
//
//   - What servers answered is removed first, the oldest before others.
//   - The last quarter is for first copies: beyond three quarters no answer is
//     kept, and no line about a payload that is known.
//   - A source, an attacker's /24 or /64, has only its share: it cannot use up the
//     room of others. Sources that had a session with the honeypot are counted apart;
//     if there is none, what the honeypot sends is charged to itself.
//   - When there is no room for a first copy, Add says so, and it is counted.
//
// Only age removes first copies. It is looked at each hour, unless the clock was
// stepped in that hour: a clock that is wrong for a moment removes nothing.
//
// Nothing kept here is ever executed, and no file has an executable name or mode.
package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"filippo.io/age"

	"dragnet/internal/conf"
	"dragnet/internal/durable"
	"dragnet/internal/run"
	"dragnet/trap/session"
)

// Configuration of a vault.
type Configuration struct {
	// Directory holds the captures.
	Directory string `yaml:"directory"`
	// Recipients are the age public keys to which payloads are encrypted, such
	// as age1...; empty makes a key in the directory, which protects copies of
	// single files and no more.
	Recipients []string `yaml:"recipients"`
	// Bytes bounds what is on disk, payloads in blocks of 4096 bytes. When it is
	// full, first copies of payloads are refused, never removed.
	Bytes int64 `yaml:"bytes"`
	// SourceShare is how much of a hundred parts of bytes one source may use, which
	// is an attacker's /24 or /64, or a honeypot if no attacker is known.
	SourceShare int `yaml:"source_share"`
	// KeepDays is how long captures are kept; 0 keeps them for ever.
	KeepDays int `yaml:"keep_days"`
}

// DefaultConfiguration keeps 1 GiB for 90 days, a tenth of it for each source.
func DefaultConfiguration() Configuration {
	return Configuration{Directory: "/var/lib/dragnet-trap", Recipients: []string{}, Bytes: 1 << 30, SourceShare: 10, KeepDays: 90}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Directory != "", "directory", "is empty; name one such as /var/lib/dragnet-trap")
	p.Check(c.Bytes >= 1<<20, "bytes", "is %d; want at least 1048576", c.Bytes)
	p.Check(c.SourceShare >= 1 && c.SourceShare <= 100, "source_share", "is %d; want 1 to 100", c.SourceShare)
	p.Check(c.KeepDays >= 0 && c.KeepDays <= 36500, "keep_days", "is %d; want 0 to 36500", c.KeepDays)
	for i, r := range c.Recipients {
		_, err := age.ParseX25519Recipient(r)
		p.Error(fmt.Sprintf("recipients[%d]", i), err)
	}
	return p.Join()
}

// Totals count what became of captures since the start.
type Totals struct {
	// Sessions were written, Payloads kept for the first time, Copies known
	// already.
	Sessions, Payloads, Copies uint64
	// Refused first copies had no room. Skipped sessions brought nothing new, and had
	// none either. Evicted answers were removed, or not kept, for the bound.
	Refused, Skipped, Evicted uint64
	// Failed payloads could not be written, for example because the disk is full.
	Failed uint64
	// Bytes on disk.
	Bytes int64
}

// Line is a session with the names of its payloads, as it is kept.
type Line struct {
	session.Session
	// SHA256 of what the client sent, and of what it was answered; empty for
	// nothing.
	Sent     string `json:"sent"`
	Answered string `json:"answered"`
	// Network in whose share of the vault it is.
	Network netip.Prefix `json:"network"`
}

// Vault is safe for concurrent use.
type Vault struct {
	c          Configuration
	now        func() time.Time
	elapsed    func() time.Duration // since New, by a clock that is never stepped
	group      *run.Group
	recipients []age.Recipient

	mu      sync.Mutex // guards all below
	kept    map[string]*payload
	used    map[netip.Prefix]int64 // bytes of first copies and lines
	answers int64                  // bytes of answers
	steady  clocks                 // at the last look at the age of captures
	totals  Totals
	day     string
	lines   *os.File
	torn    bool // the last write to lines failed
}

// payload is a file on disk.
type payload struct {
	bytes  int64
	since  time.Time
	answer bool // never sent by a client
}

// New makes a vault; Start opens it.
func New(c Configuration) (*Vault, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	began := time.Now()
	return &Vault{c: c, now: time.Now, elapsed: func() time.Duration { return time.Since(began) }, group: run.NewGroup()}, nil
}

// KeyFile holds the vault's own key, if no recipients are configured.
const KeyFile = "age.key"

// Start opens the directory and lists what is there.
func (v *Vault) Start(context.Context) error {
	for _, d := range []string{"payloads", "sessions"} {
		if err := os.MkdirAll(filepath.Join(v.c.Directory, d), 0o700); err != nil {
			return fmt.Errorf("captures: %w", err)
		}
	}
	if err := v.openRecipients(); err != nil {
		return fmt.Errorf("captures: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.load(); err != nil {
		return fmt.Errorf("captures: %w", err)
	}
	v.steady = v.readClocks()
	v.group.GoWithoutError(v.expireHourly)
	return nil
}

func (v *Vault) openRecipients() error {
	for _, text := range v.c.Recipients {
		r, err := age.ParseX25519Recipient(text)
		if err != nil {
			return err
		}
		v.recipients = append(v.recipients, r)
	}
	if len(v.recipients) > 0 {
		return nil
	}
	identities, err := ReadKey(filepath.Join(v.c.Directory, KeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		key, err := age.GenerateX25519Identity()
		if err != nil {
			return err
		}
		v.recipients = []age.Recipient{key.Recipient()}
		return durable.WriteFile(filepath.Join(v.c.Directory, KeyFile), []byte(key.String()+"\n"), 0o600)
	}
	if err != nil {
		return err
	}
	for _, i := range identities {
		if x, ok := i.(*age.X25519Identity); ok {
			v.recipients = append(v.recipients, x.Recipient())
		}
	}
	if len(v.recipients) == 0 {
		return fmt.Errorf("%s holds no X25519 key", KeyFile)
	}
	return nil
}

// Recipients are those to whom captures are encrypted; known after Start.
func (v *Vault) Recipients() []age.Recipient { return v.recipients }

// ReadKey reads the age keys of a file.
func ReadKey(path string) ([]age.Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return age.ParseIdentities(f)
}

// Stop writes out what is buffered.
func (v *Vault) Stop(ctx context.Context) error {
	stopped := v.group.Stop(ctx)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lines == nil {
		return stopped
	}
	err := errors.Join(stopped, v.lines.Sync(), v.lines.Close())
	v.lines = nil
	return err
}

// Totals counts what became of captures.
func (v *Vault) Totals() Totals {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.totals
}

// ErrNoRoom is the error of Add when a first copy is not kept for the bound.
var ErrNoRoom = errors.New("no room for a payload that is new")

// Add keeps a session of a honeypot, in the share of one of its attackers. New is
// whether what the client sent was seen for the first time. After an error the
// session may be kept in part.
func (v *Vault) Add(s *session.Session, attackers []netip.Addr) (isNew bool, err error) {
	line := Line{Session: *s, Sent: nameOf(s.Sent), Answered: nameOf(s.Answered)}
	v.mu.Lock()
	defer v.mu.Unlock()
	known := v.kept[line.Sent]
	isNew = line.Sent != "" && (known == nil || known.answer)
	if !isNew && line.Sent != "" {
		v.totals.Copies++
	}
	line.Network, err = v.findRoom(s, attackers, isNew)
	if err != nil {
		return isNew, err
	}
	if line.Network.IsValid() { // a copy without room has no line
		err = v.addSession(&line, isNew)
	}
	return isNew, err
}

func (v *Vault) addSession(l *Line, isNew bool) error {
	var sent, answered error
	if isNew {
		if sent = v.addSent(l); sent != nil {
			v.totals.Failed++
		}
	}
	if l.Answered != "" && v.kept[l.Answered] == nil {
		if answered = v.addAnswer(l); answered != nil {
			v.totals.Failed++
		}
	}
	return errors.Join(sent, answered, v.addLine(l)) // the line names what could not be written
}

func nameOf(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (v *Vault) path(name string) string {
	return filepath.Join(v.c.Directory, "payloads", name[:2], name+".age")
}

// addSent keeps a first copy, for which there is room.
func (v *Vault) addSent(l *Line) error {
	p := v.kept[l.Sent]
	if p != nil { // a server was seen to answer it before
		p.answer = false
		v.answers -= p.bytes
	} else {
		var err error
		if p, err = v.write(l.Sent, l.Session.Sent); err != nil {
			return err
		}
	}
	v.used[l.Network] += p.bytes
	v.totals.Payloads++
	return nil
}

func (v *Vault) addAnswer(l *Line) error {
	if !v.makeRoom(onDisk(sealedBytes(len(l.Session.Answered))), v.withoutReserve()) {
		v.totals.Evicted++
		return nil
	}
	p, err := v.write(l.Answered, l.Session.Answered)
	if err != nil {
		return err
	}
	p.answer = true
	v.answers += p.bytes
	return nil
}

func (v *Vault) write(name string, b []byte) (*payload, error) {
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, v.recipients...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(v.path(name)), 0o700); err != nil {
		return nil, err
	}
	if err := durable.WriteFile(v.path(name), sealed.Bytes(), 0o600); err != nil {
		return nil, err
	}
	p := &payload{bytes: onDisk(int64(sealed.Len())), since: v.now()}
	v.kept[name] = p
	v.totals.Bytes += p.bytes
	return p, nil
}

// addLine appends to the day's file. The day is that of the machine's clock: one
// that steps back writes to the file of an earlier day again.
func (v *Vault) addLine(l *Line) error {
	day := v.now().UTC().Format(time.DateOnly)
	if v.lines == nil || day != v.day {
		if v.lines != nil {
			if err := v.lines.Close(); err != nil {
				return err
			}
		}
		f, err := os.OpenFile(filepath.Join(v.c.Directory, "sessions", day+".jsonl"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			v.lines = nil
			return err
		}
		info, err := f.Stat()
		if err != nil {
			return errors.Join(err, f.Close())
		}
		v.lines, v.day, v.torn = f, day, info.Size() > 0 // a crash may have cut the last line
	}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if v.torn { // a line was written in part: this one must not continue it
		text = append([]byte{'\n'}, text...)
	}
	n, err := v.lines.Write(append(text, '\n'))
	v.totals.Bytes += int64(n)
	v.used[l.Network] += int64(n)
	if err != nil {
		v.torn = true
		return err
	}
	v.torn = false
	v.totals.Sessions++
	return nil
}
