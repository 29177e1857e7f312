package collect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"dragnet/flow"
	"dragnet/internal/durable"
	"dragnet/source/biflow"
)

// saved is what a Collector keeps across restarts, as JSON.
type saved struct {
	Version int `json:"version"`
	// Stopped is whether the collector was stopped after it wrote this.
	Stopped   bool                          `json:"stopped"`
	Totals    Totals                        `json:"totals"`
	Gone      map[netip.Prefix]Counters     `json:"gone"`
	Qualities map[netip.Addr]biflow.Quality `json:"qualities"`
	NetFlow   json.RawMessage               `json:"netflow"`
	SFlow     json.RawMessage               `json:"sflow"`
}

// savedVersion is that of the file; one without a version has templates only.
const savedVersion = 2

// Save keeps templates and counts for the next run, if they changed.
func (c *Collector) Save() error {
	if c.file == "" || c.config.Off() {
		return nil
	}
	c.mu.Lock()
	text, err := c.encodeState()
	same := string(text) == c.saved
	c.mu.Unlock()
	if err != nil || same {
		return err
	}
	if err := durable.WriteFile(c.file, text, 0o600); err != nil {
		return fmt.Errorf("keep templates and counts of exporters: %w", err)
	}
	c.mu.Lock()
	c.saved = string(text)
	c.mu.Unlock()
	return nil
}

func (c *Collector) encodeState() (text []byte, err error) {
	s := saved{Version: savedVersion, Stopped: c.stopped, Totals: c.totals, Gone: map[netip.Prefix]Counters{}, Qualities: c.join.Qualities()}
	s.Totals.Refused = c.sumRefused()
	// What is of no exporter that is kept has no prefix either.
	delete(s.Qualities, netip.Addr{})
	for i, p := range c.config.Exporters {
		s.Gone[p] = c.gone[i]
	}
	if s.NetFlow, err = c.netflow.Save(); err != nil {
		return nil, err
	}
	if s.SFlow, err = c.sflow.Save(); err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

// restoreState reads what an earlier run kept. If that was killed, it is not known
// which sequence numbers were received since, so they begin again.
func (c *Collector) restoreState() error {
	if c.file == "" {
		return nil
	}
	text, err := os.ReadFile(c.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var s saved
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("read %s: %w", c.file, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := flow.FromTime(c.now())
	switch s.Version {
	case 0:
		return c.netflow.Restore(now, text)
	case savedVersion:
	default:
		return fmt.Errorf("read %s: version %d; this program knows %d", c.file, s.Version, savedVersion)
	}
	c.totals = s.Totals
	for i, p := range c.config.Exporters {
		c.gone[i] = s.Gone[p]
	}
	for from, q := range s.Qualities {
		if c.named.Contains(from) {
			c.join.Count(now, from, &q)
		}
	}
	err = errors.Join(c.netflow.Restore(now, s.NetFlow), c.sflow.Restore(now, s.SFlow))
	if !s.Stopped {
		c.totals.Killed++
		c.netflow.Break()
		c.sflow.Break()
	}
	return err
}
