package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"dragnet/flow"
	"dragnet/internal/conf"
	"dragnet/publish/ocsf"
)

// OCSF sends events of the Open Cybersecurity Schema Framework: a finding is a
// Detection Finding, a flow Network Activity, a decision that begins or ends a
// block Network Remediation Activity. Each receiver without an address is off.
type OCSF struct {
	// Kinds are any of finding, decision, flow. Flows are as many as the node
	// stores; what a receiver is too slow for is dropped and counted.
	Kinds []string `yaml:"kinds"`
	// File gets one event on each line.
	File File `yaml:"file"`
	// Webhook posts arrays of events.
	Webhook Webhook `yaml:"webhook"`
	// Syslog sends each event as the text of a message (RFC 5424).
	Syslog Syslog `yaml:"syslog"`
	// Batch is how many events are sent together at most, and Every how long
	// they are collected.
	Batch int `yaml:"batch"`
	// Every is that span.
	Every time.Duration `yaml:"every"`
	// Queue bounds the events that wait for each receiver.
	Queue int `yaml:"queue"`
}

// File is where events are appended.
type File struct {
	// Path of the file; empty writes none. It may be renamed at any time.
	Path string `yaml:"path"`
	// MaxBytes is when the file is renamed to PATH.1, and a new one started; 0
	// leaves that to others.
	MaxBytes int64 `yaml:"max_bytes"`
}

func defaultOCSF() OCSF {
	return OCSF{Kinds: []string{"finding", "decision"}, File: File{MaxBytes: 1 << 30}, Webhook: Webhook{Timeout: 10 * time.Second},
		Syslog: Syslog{Facility: 13}, Batch: 500, Every: time.Second, Queue: 20_000}
}

// Validate reports all invalid settings.
func (c *OCSF) Validate() error {
	var p conf.Problems
	kinds := []string{"finding", "decision", "flow"}
	for i, k := range c.Kinds {
		p.Check(slices.Contains(kinds, k), fmt.Sprintf("kinds[%d]", i), "%q; want one of %v", k, kinds)
	}
	p.Section("webhook", c.Webhook.Validate())
	p.Section("syslog", c.Syslog.Validate())
	p.Check(c.File.MaxBytes >= 0, "file.max_bytes", "is %d; want 0 or more", c.File.MaxBytes)
	p.Check(c.Batch >= 1 && c.Batch <= 10_000, "batch", "is %d; want 1 to 10000 events", c.Batch)
	p.Check(c.Every >= 10*time.Millisecond && c.Every <= time.Hour, "every", "is %v; want 10ms to 1h", c.Every)
	p.Check(c.Queue >= 1 && c.Queue <= 1_000_000, "queue", "is %d; want 1 to 1000000 events", c.Queue)
	return p.Join()
}

// queues are those of the receivers.
func (c *OCSF) queues(host string) (all []queue) {
	s := newSyslog(c.Syslog, host)
	s.format = s.formatEvent
	for _, to := range []channel{&eventFile{c.File, c.Every}, &eventWebhook{newWebhook(c.Webhook), c.Every}, &eventSyslog{s, c.Every}} {
		if to.name() != "" {
			all = append(all, queue{to, make(chan Notice, c.Queue), c.Kinds, c.Batch})
		}
	}
	return all
}

// WantsFlows reports whether flows are sent anywhere.
func (n *Notifier) WantsFlows() bool {
	return slices.ContainsFunc(n.queues, func(q queue) bool { return slices.Contains(q.kinds, "flow") })
}

// NotifyFlows queues flows; it never blocks, and keeps nothing of the slice.
func (n *Notifier) NotifyFlows(batch []flow.Flow) {
	for i := range batch {
		f := batch[i]
		n.Notify(Notice{Time: f.Start, Kind: "flow", Flow: &f})
	}
}

// eventOf is the event of a notice, nil if it is none: a decision that waits or is
// refused changes nothing in the network.
func eventOf(n *Notice) *ocsf.Event {
	switch {
	case n.Finding != nil:
		return ocsf.FromFinding(n.Finding)
	case n.Flow != nil:
		return ocsf.FromFlow(n.Flow)
	case n.Decision != nil:
		if e, ok := ocsf.FromDecision(n.Decision); ok {
			return e
		}
	}
	return nil
}

// encodeEvents writes the events of notices, each followed by a separator.
func encodeEvents(notices []Notice, separator byte) ([]byte, error) {
	var b bytes.Buffer
	for i := range notices {
		e := eventOf(&notices[i])
		if e == nil {
			continue
		}
		text, err := json.Marshal(e)
		if err != nil {
			return nil, permanent{err}
		}
		b.Write(append(text, separator))
	}
	return b.Bytes(), nil
}

type eventFile struct {
	c     File
	every time.Duration
}

func (f *eventFile) name() string {
	if f.c.Path == "" {
		return ""
	}
	return "ocsf-file"
}

func (f *eventFile) collectFor() time.Duration { return f.every }

// send appends all lines with one write. If only a part was written, it is taken
// back, so that no line is half.
func (f *eventFile) send(_ context.Context, notices []Notice) error {
	text, err := encodeEvents(notices, '\n')
	if err != nil || len(text) == 0 {
		return err
	}
	if err := f.rotate(int64(len(text))); err != nil {
		return err
	}
	out, err := os.OpenFile(f.c.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	before, err := out.Stat()
	if err != nil {
		return errors.Join(err, out.Close())
	}
	if _, err = out.Write(text); err != nil {
		err = errors.Join(err, out.Truncate(before.Size()))
	}
	return errors.Join(err, out.Close())
}

func (f *eventFile) rotate(more int64) error {
	info, err := os.Stat(f.c.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case f.c.MaxBytes == 0 || info.Size() == 0 || info.Size()+more <= f.c.MaxBytes || !info.Mode().IsRegular():
		return nil
	}
	return os.Rename(f.c.Path, f.c.Path+".1")
}

type eventWebhook struct {
	*webhook
	every time.Duration
}

func (w *eventWebhook) name() string {
	if w.c.URL == "" {
		return ""
	}
	return "ocsf-webhook"
}

func (w *eventWebhook) collectFor() time.Duration { return w.every }

// send posts one array.
func (w *eventWebhook) send(ctx context.Context, notices []Notice) error {
	text, err := encodeEvents(notices, ',')
	if err != nil || len(text) == 0 {
		return err
	}
	text[len(text)-1] = ']'
	if err := w.post(ctx, append([]byte{'['}, text...)); err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	return nil
}

type eventSyslog struct {
	*syslog
	every time.Duration
}

func (s *eventSyslog) name() string {
	if s.c.Address == "" {
		return ""
	}
	return "ocsf-syslog"
}

func (s *eventSyslog) collectFor() time.Duration { return s.every }

func (s *eventSyslog) send(ctx context.Context, notices []Notice) error {
	return s.syslog.send(ctx, slices.DeleteFunc(slices.Clone(notices), func(n Notice) bool { return eventOf(&n) == nil }))
}

// maxMessage is what receivers take at least in their default settings: half an
// event could not be read.
const maxMessage = 8000

// formatEvent writes an event as the text of a message, without structured data.
func (s *syslog) formatEvent(n *Notice) []byte {
	e := eventOf(n)
	text, err := json.Marshal(e)
	if err == nil && len(text) > maxMessage {
		e.Evidences = nil
		text, err = json.Marshal(e)
	}
	if err == nil && len(text) > maxMessage {
		const least = 500 // bytes, of each of the two texts
		e.Message = shorten(e.Message, least)
		if e.Finding != nil {
			e.Finding.Desc = shorten(e.Finding.Desc, least)
		}
		text, err = json.Marshal(e)
	}
	if err != nil { // never: an event has a JSON form
		text = []byte("{}")
	}
	return append([]byte(s.header(n)+" - "), text...)
}

func shorten(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "..."
}
