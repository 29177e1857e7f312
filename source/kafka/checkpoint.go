package kafka

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"

	"dragnet/flow"
	"dragnet/internal/durable"
)

// checkpoint is the state of a Consumer as its file holds it.
type checkpoint struct {
	Version int `json:"version"`
	// Number is that under which the flows so far are stored.
	Number int64       `json:"number"`
	Topics []savedFeed `json:"topics"`
}

type savedFeed struct {
	Name       string           `json:"name"`
	Format     string           `json:"format"`
	Partitions map[int32]offset `json:"partitions"`
	Clock      flow.Time        `json:"clock"`
	Counts     Counts           `json:"counts"`
	Join       []byte           `json:"join"`
	NetFlow    json.RawMessage  `json:"netflow"`
	SFlow      json.RawMessage  `json:"sflow"`
}

// offset is where a partition goes on, and the time that it had reached.
type offset struct {
	Next  int64     `json:"next"`
	Clock flow.Time `json:"clock"`
}

const checkpointVersion = 1

// checkpointFile returns the file of a checkpoint. The next one does not replace it, since the
// store may not have taken that in yet.
func (c *Consumer) checkpointFile(number int64) string { return fmt.Sprintf("%s.%d", c.file, number%2) }

// readID returns a random name that is kept in a file.
func (c *Consumer) readID() (string, error) {
	file := c.file + ".id"
	text, err := os.ReadFile(file)
	if err == nil && len(text) == 17 {
		return string(text[:16]), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id := fmt.Sprintf("%016x", rand.Uint64())
	return id, durable.WriteFile(file, []byte(id+"\n"), 0o600)
}

// writeCheckpoint keeps the state of all topics under the next number.
func (c *Consumer) writeCheckpoint() (number int64, err error) {
	k := checkpoint{Version: checkpointVersion, Number: c.number + 1}
	for _, f := range c.feeds {
		one, err := f.saveState()
		if err != nil {
			return 0, err
		}
		k.Topics = append(k.Topics, one)
	}
	text, err := json.Marshal(k)
	if err != nil {
		return 0, err
	}
	if err := durable.WriteFile(c.checkpointFile(k.Number), text, 0o600); err != nil {
		return 0, fmt.Errorf("keep where topics go on: %w", err)
	}
	return k.Number, nil
}

// errNoCheckpoint is why Consumer goes on from the offsets committed.
var errNoCheckpoint = errors.New("no file has the state that the store has taken in")

// readCheckpoint takes the state that the store has taken in.
func (c *Consumer) readCheckpoint(number int64) error {
	text, err := os.ReadFile(c.checkpointFile(number))
	if errors.Is(err, fs.ErrNotExist) {
		return errNoCheckpoint
	}
	if err != nil {
		return err
	}
	var k checkpoint
	if err := json.Unmarshal(text, &k); err != nil {
		return fmt.Errorf("read %s: %w", c.checkpointFile(number), err)
	}
	if k.Version != checkpointVersion || k.Number != number {
		return fmt.Errorf("%w: %s is of version %d and number %d", errNoCheckpoint, c.checkpointFile(number), k.Version, k.Number)
	}
	for i := range k.Topics {
		for _, f := range c.feeds {
			if f.topic.Name == k.Topics[i].Name {
				if err := f.restoreState(&k.Topics[i]); err != nil {
					return fmt.Errorf("read %s: topic %s: %w", c.checkpointFile(number), f.topic.Name, err)
				}
			}
		}
	}
	return nil
}

func (f *feed) saveState() (one savedFeed, err error) {
	one = savedFeed{Name: f.topic.Name, Format: f.topic.Format, Partitions: map[int32]offset{}, Clock: f.clock, Counts: f.counts, Join: f.join.Save()}
	for n, p := range f.partitions {
		at := offset{p.next, p.clock}
		if len(p.queue) > 0 {
			at.Clock = p.queue[0].at
		}
		one.Partitions[n] = at
	}
	if one.NetFlow, err = f.netflow.Save(); err != nil {
		return one, err
	}
	one.SFlow, err = f.sflow.Save()
	return one, err
}

func (f *feed) restoreState(one *savedFeed) error {
	f.clock, f.counts = one.Clock, one.Counts
	if err := f.join.Restore(one.Join); err != nil {
		return err
	}
	if err := f.netflow.Restore(f.clock, one.NetFlow); err != nil {
		return err
	}
	if err := f.sflow.Restore(f.clock, one.SFlow); err != nil {
		return err
	}
	for n, at := range one.Partitions {
		if n < 0 || at.Next < 0 {
			return fmt.Errorf("partition %d cannot go on at %d", n, at.Next)
		}
		f.partitions[n] = &partition{next: at.Next, fetched: at.Next, clock: at.Clock}
	}
	return nil
}
