package channel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	"google.golang.org/protobuf/types/known/durationpb"

	"dragnet/internal/durable"
	agentv1 "dragnet/wire/agent/v1"
)

// documentFile holds the last good document, as it came.
const documentFile = "configuration.pb"

// patience is how long the node may take to say that nothing is new.
const patience = 30 * time.Second

func fromWire(d *agentv1.Document) Document {
	return Document{Version: d.Version, Format: d.Format, Body: d.Body}
}

func (c *Client) apply(ctx context.Context, d *agentv1.Document) error {
	if c.deps.Apply == nil {
		return nil
	}
	return c.deps.Apply(ctx, fromWire(d))
}

// applyLast puts the document into use that was good when the agent ended.
func (c *Client) applyLast(ctx context.Context) error {
	path := filepath.Join(c.config.State, documentFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		c.deps.Log.Info("no configuration from the node yet")
		return nil
	}
	if err != nil {
		return err
	}
	var d agentv1.Document
	if err := proto.Unmarshal(data, &d); err != nil {
		return fmt.Errorf("%s: %w; remove it to wait for the node's", path, err)
	}
	if err := c.apply(ctx, &d); err != nil {
		c.deps.Log.Error("last good configuration cannot be used any more", "version", d.Version, "err", err)
		return nil
	}
	c.deps.Log.Info("using the last good configuration until the node answers", "version", d.Version)
	c.noteApplied(d.Version, "")
	return nil
}

func (c *Client) noteApplied(version, refused string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Version, c.status.Refused = version, refused
}

// configure asks for documents until ctx ends.
func (c *Client) configure(ctx context.Context) {
	problem := ""
	for failures := 0; ctx.Err() == nil; {
		s := c.Status()
		m := &agentv1.GetConfigurationRequest{
			Have: s.Version, Refused: s.Refused, Problem: problem,
			Release: c.deps.Release, WaitingBytes: uint64(s.Waiting), Dropped: s.Dropped,
		}
		if s.Connected { // else an immediate answer shows that the node is reachable
			m.Wait = durationpb.New(patience)
		}
		asked, cancel := context.WithTimeout(ctx, 2*patience)
		got, err := c.node().GetConfiguration(asked, m)
		cancel()
		if ctx.Err() != nil {
			return
		}
		c.noteContact(err)
		if err != nil {
			failures++
			if !c.retry.wait(ctx, failures) {
				return
			}
			continue
		}
		failures = 0
		if got.Document != nil {
			problem = c.changeTo(ctx, s.Version, got.Document)
		} else if !pauseRetry(ctx) {
			return
		}
	}
}

// pauseRetry keeps a node that answers at once from being asked all the time.
func pauseRetry(ctx context.Context) bool {
	return backoff{100 * time.Millisecond, time.Second}.wait(ctx, 1)
}

// changeTo puts a new document into use and keeps it. It returns why it could
// not, for the node.
func (c *Client) changeTo(ctx context.Context, have string, d *agentv1.Document) (problem string) {
	err := c.apply(ctx, d)
	if err == nil {
		var data []byte
		if data, err = proto.Marshal(d); err == nil {
			err = durable.WriteFile(filepath.Join(c.config.State, documentFile), data, 0o600)
		}
		if err != nil { // in use, but not after the next start
			c.deps.Log.Error("save new configuration failed", "version", d.Version, "err", err)
		}
		c.deps.Log.Info("new configuration in use", "version", d.Version)
		c.noteApplied(d.Version, "")
		return ""
	}
	c.deps.Log.Error("new configuration cannot be used; keeping the previous one", "version", d.Version, "current", have, "err", err)
	c.noteApplied(have, d.Version)
	return err.Error()
}
