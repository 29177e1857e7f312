package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"dragnet/internal/durable"
)

// Epochs are the names under which a clearinghouse publishes the salts of days.
// The first name learned of a day is kept: two names would be two salts. It is
// safe for concurrent use.
type Epochs struct {
	file string

	mu    sync.Mutex
	names map[string]string // by day; nil until the first was learned
}

// maxEpochs bounds the days that are remembered.
const maxEpochs = 400

// OpenEpochs reads what was learned before.
func OpenEpochs(file string) (*Epochs, error) {
	e := &Epochs{file: file}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &e.names)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove it to learn the epochs again", file, err)
	}
	return e, nil
}

// Name is the epoch of a day: the published one, or the day itself where none
// was learned.
func (e *Epochs) Name(day string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if name, ok := e.names[day]; ok {
		return name
	}
	return day
}

// Published returns all learned names by day; never nil.
func (e *Epochs) Published() map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.names == nil {
		return map[string]string{}
	}
	return maps.Clone(e.names)
}

// merge keeps the names of days. A day that has another name by now keeps its
// old one, and the error says so.
func (e *Epochs) merge(names map[string]string) (err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := map[string]string{}
	maps.Copy(next, e.names)
	for day, name := range names {
		if old, known := e.names[day]; known && old != name {
			err = errors.Join(err, fmt.Errorf("the clearinghouse publishes epoch %s for %s, and published %s before", name, day, old))
			continue
		}
		next[day] = name
	}
	if maps.Equal(next, e.names) {
		return err
	}
	for days := slices.Sorted(maps.Keys(next)); len(days) > maxEpochs; days = days[1:] {
		delete(next, days[0])
	}
	data, failed := json.Marshal(next)
	if failed == nil {
		failed = durable.WriteFile(e.file, data, 0o600)
	}
	if failed == nil {
		e.names = next
	}
	return errors.Join(err, failed)
}
