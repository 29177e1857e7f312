// Package durable writes files that are whole after a crash: a reader finds the
// old content or the new one, and what WriteFile acknowledged stays.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces the content of path with data. The system calls are
//
//	openat(dir/.name.*, O_RDWR|O_CREAT|O_EXCL, 0600)
//	write, fchmod(perm), fsync, close
//	renameat(dir/.name.*, path)
//	openat(dir), fsync, close
//
// The first fsync keeps a file system from making the new name durable before its
// content; the second makes the name itself durable. After an error path is still
// whole: it has the old content, or the new one if the rename was done but may not
// survive a crash.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	tmp, err := os.CreateTemp(dir, "."+name+".*")
	if err != nil {
		return err
	}
	if err := writeContent(tmp, data, perm); err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return syncDir(dir)
}

func writeContent(f *os.File, data []byte, perm fs.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
