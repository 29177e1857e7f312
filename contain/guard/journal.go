package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// journal appends events to a file, and keeps one older file.
type journal struct {
	path string
	file *os.File
	size int64
}

// journalSize is the size at which the file is rotated: at most twice that is
// kept.
const journalSize = 16 << 20

func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("event journal: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("event journal: %w", err), f.Close())
	}
	return &journal{path, f, info.Size()}, nil
}

func (j *journal) write(e Action) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if j.size > journalSize {
		if err := j.rotateFile(); err != nil {
			return err
		}
	}
	n, err := j.file.Write(append(b, '\n'))
	j.size += int64(n)
	return err
}

func (j *journal) rotateFile() error {
	if err := j.file.Close(); err != nil {
		return err
	}
	if err := os.Rename(j.path, j.path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh, err := openJournal(j.path)
	if err != nil {
		return err
	}
	*j = *fresh
	return nil
}

func (j *journal) close() error { return errors.Join(j.file.Sync(), j.file.Close()) }
