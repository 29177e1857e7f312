// Package vault keeps what a trap recorded: each payload once, under its SHA-256
// and encrypted, and one line of JSON a session.
//
//	payloads/ab/abcdef...age   bytes of one side of sessions, encrypted by age
//	sessions/2026-11-26.jsonl  sessions of a day (UTC), which name their payloads
//
// A bound on the bytes holds whatever is sent: what servers answered is removed
// first, then the oldest payloads, and both are counted. Nothing kept here is
// ever executed, and no file has an executable name or mode.
package vault

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

	"dragnet/internal/conf"
	"dragnet/internal/durable"
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
	// Bytes bounds the payloads on disk.
	Bytes int64 `yaml:"bytes"`
	// KeepDays is how long captures are kept; 0 keeps them until the bound.
	KeepDays int `yaml:"keep_days"`
}

// DefaultConfiguration keeps 1 GiB for 90 days.
func DefaultConfiguration() Configuration {
	return Configuration{Directory: "/var/lib/dragnet-trap", Recipients: []string{}, Bytes: 1 << 30, KeepDays: 90}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Directory != "", "directory", "is empty; name one such as /var/lib/dragnet-trap")
	p.Check(c.Bytes >= 1<<20, "bytes", "is %d; want at least 1048576", c.Bytes)
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
	// Evicted payloads were removed for the bound; Failed ones could not be
	// written, for example because the disk is full.
	Evicted, Failed uint64
	// Bytes of payloads on disk.
	Bytes int64
}

// Line is a session with the names of its payloads, as it is kept.
type Line struct {
	session.Session
	// SHA256 of what the client sent, and of what it was answered; empty for
	// nothing.
	Sent     string `json:"sent"`
	Answered string `json:"answered"`
}

// Vault is safe for concurrent use.
type Vault struct {
	c          Configuration
	now        func() time.Time
	recipients []age.Recipient

	mu     sync.Mutex // guards all below
	kept   map[string]*payload
	totals Totals
	day    string
	lines  *os.File
	torn   bool // the last write to lines failed
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
	return &Vault{c: c, now: time.Now, kept: map[string]*payload{}}, nil
}

// keyFile holds the vault's own key, if no recipients are configured.
const keyFile = "age.key"

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
	err := filepath.WalkDir(filepath.Join(v.c.Directory, "payloads"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if name, ok := strings.CutSuffix(e.Name(), ".age"); ok && len(name) == 2*sha256.Size {
			v.kept[name] = &payload{bytes: info.Size(), since: info.ModTime()}
			v.totals.Bytes += info.Size()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("captures: %w", err)
	}
	v.expire()
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
	identities, err := ReadKey(filepath.Join(v.c.Directory, keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		key, err := age.GenerateX25519Identity()
		if err != nil {
			return err
		}
		v.recipients = []age.Recipient{key.Recipient()}
		return durable.WriteFile(filepath.Join(v.c.Directory, keyFile), []byte(key.String()+"\n"), 0o600)
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
		return fmt.Errorf("%s holds no X25519 key", keyFile)
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
func (v *Vault) Stop(context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lines == nil {
		return nil
	}
	err := errors.Join(v.lines.Sync(), v.lines.Close())
	v.lines = nil
	return err
}

// Totals counts what became of captures.
func (v *Vault) Totals() Totals {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.totals
}

// Add keeps a session. New is whether what the client sent was seen for the first
// time. After an error the session may be kept in part.
func (v *Vault) Add(s *session.Session) (isNew bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	line := Line{Session: *s}
	var failed error
	if line.Sent, isNew, err = v.addPayload(s.Sent, false); err != nil {
		v.totals.Failed++
		failed = err
	}
	if line.Answered, _, err = v.addPayload(s.Answered, true); err != nil {
		v.totals.Failed++
	}
	return isNew, errors.Join(failed, err, v.addLine(&line)) // the line names them even if there was no room
}

func (v *Vault) path(name string) string {
	return filepath.Join(v.c.Directory, "payloads", name[:2], name+".age")
}

func (v *Vault) addPayload(b []byte, answer bool) (name string, isNew bool, err error) {
	if len(b) == 0 {
		return "", false, nil
	}
	sum := sha256.Sum256(b)
	name = hex.EncodeToString(sum[:])
	if p := v.kept[name]; p != nil {
		p.answer = p.answer && answer
		if !answer {
			v.totals.Copies++
		}
		return name, false, nil
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, v.recipients...)
	if err != nil {
		return name, true, err
	}
	if _, err := w.Write(b); err != nil {
		return name, true, err
	}
	if err := w.Close(); err != nil {
		return name, true, err
	}
	v.makeRoom(int64(sealed.Len()))
	if err := os.MkdirAll(filepath.Dir(v.path(name)), 0o700); err != nil {
		return name, true, err
	}
	if err := durable.WriteFile(v.path(name), sealed.Bytes(), 0o600); err != nil {
		return name, true, err
	}
	v.kept[name] = &payload{int64(sealed.Len()), v.now(), answer}
	v.totals.Bytes += int64(sealed.Len())
	if !answer {
		v.totals.Payloads++
	}
	return name, true, nil
}

// makeRoom removes payloads until n bytes fit: answers first, then the oldest.
func (v *Vault) makeRoom(n int64) {
	if v.totals.Bytes+n <= v.c.Bytes {
		return
	}
	names := make([]string, 0, len(v.kept))
	for name := range v.kept {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := v.kept[a], v.kept[b]
		if x.answer != y.answer {
			if x.answer {
				return -1
			}
			return 1
		}
		return cmp.Or(x.since.Compare(y.since), cmp.Compare(a, b))
	})
	// A tenth more than is needed, so that this is not done for each.
	for _, name := range names {
		if v.totals.Bytes+n <= v.c.Bytes-v.c.Bytes/10 {
			return
		}
		if v.remove(name) {
			v.totals.Evicted++
		}
	}
}

func (v *Vault) remove(name string) bool {
	if err := os.Remove(v.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	v.totals.Bytes -= v.kept[name].bytes
	delete(v.kept, name)
	return true
}

// expire removes what is older than keep_days.
func (v *Vault) expire() {
	if v.c.KeepDays == 0 {
		return
	}
	before := v.now().AddDate(0, 0, -v.c.KeepDays)
	for name, p := range v.kept {
		if p.since.Before(before) {
			v.remove(name)
		}
	}
	days, err := filepath.Glob(filepath.Join(v.c.Directory, "sessions", "*.jsonl"))
	if err != nil {
		return
	}
	for _, path := range days {
		if filepath.Base(path) < before.UTC().Format(time.DateOnly) {
			_ = os.Remove(path) // it is tried again the next day
		}
	}
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
			v.expire()
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
	if _, err := v.lines.Write(append(text, '\n')); err != nil {
		v.torn = true
		return err
	}
	v.torn = false
	v.totals.Sessions++
	return nil
}

// Sessions calls do with each session kept in a directory, the oldest first. A
// line that a crash cut is left out.
func Sessions(dir string, do func(*Line) error) error {
	days, err := filepath.Glob(filepath.Join(dir, "sessions", "*.jsonl"))
	if err != nil {
		return err
	}
	slices.Sort(days)
	for _, path := range days {
		if err := readDay(path, do); err != nil {
			return err
		}
	}
	return nil
}

func readDay(path string, do func(*Line) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var l Line
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			continue
		}
		if err := do(&l); err != nil {
			return err
		}
	}
	return lines.Err()
}

// ReadPayload decrypts a payload of a directory.
func ReadPayload(dir, name string, keys []age.Identity) ([]byte, error) {
	if len(name) != 2*sha256.Size || strings.Trim(name, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("%.80q is not a SHA-256 in hexadecimal digits", name)
	}
	f, err := os.Open(filepath.Join(dir, "payloads", name[:2], name+".age"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := age.Decrypt(f, keys...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != name {
		return nil, fmt.Errorf("%s: its content has another SHA-256", name)
	}
	return b, nil
}
