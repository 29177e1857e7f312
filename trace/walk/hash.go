//go:build linux

package walk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"sync"

	"dragnet/trace/record"

	"golang.org/x/sys/unix"
)

// Bounds of hashing executables. Anybody may run programs of any size, which need
// not take up room on a disk, so only a part is hashed before the answer.
const (
	maxExecutable = 256 << 20 // of one file
	hashAtOnce    = 32 << 20  // of one request before its answer
	hashAfter     = 1 << 30   // of one request after its answer
	maxHashes     = 4096      // kept in memory
)

// fileID identifies the contents of a file as long as clocks are not set back.
type fileID struct {
	dev, inode   uint64
	size         int64
	mtime, ctime int64
}

// hashCache caches the SHA-256 of executables.
type hashCache struct {
	mu   sync.Mutex // guards sums
	sums map[fileID]string
}

func newHashCache() *hashCache { return &hashCache{sums: map[fileID]string{}} }

func (h *hashCache) find(id fileID) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sum, ok := h.sums[id]
	return sum, ok
}

func (h *hashCache) add(id fileID, sum string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.sums) >= maxHashes {
		clear(h.sums)
	}
	h.sums[id] = sum
}

// lateFile is an executable to be hashed after the answer, kept open because its
// process may end before.
type lateFile struct {
	file *os.File
	size int64
	of   record.Executable
}

// hashExecutable hashes the file that a process runs, or leaves it for HashLater.
func (w *Walked) hashExecutable(dir int, pid int32, path string) string {
	var st unix.Stat_t
	if unix.Fstatat(dir, "exe", &st, 0) != nil {
		return ""
	}
	id := fileID{st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
	if sum, ok := w.finder.hashes.find(id); ok {
		return sum
	}
	if late := w.late[id]; late != nil {
		late.of.PIDs = append(late.of.PIDs, pid)
		return ""
	}
	fd, err := unix.Openat(dir, "exe", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	f := os.NewFile(uintptr(fd), path)
	if w.hashed+st.Size > hashAtOnce {
		if w.late == nil {
			w.late = map[fileID]*lateFile{}
		}
		w.late[id] = &lateFile{f, st.Size, record.Executable{Path: path, PIDs: []int32{pid}}}
		return ""
	}
	defer f.Close()
	w.hashed += st.Size
	sum, err := hashFile(context.Background(), f)
	if err != nil {
		return ""
	}
	w.finder.hashes.add(id, sum)
	return sum
}

// HashLater hashes the executables that Record left. Each is listed, with a
// reason where it is not hashed.
func (w *Walked) HashLater(ctx context.Context) []record.Executable {
	var out []record.Executable
	var hashed int64
	for id, late := range w.late {
		var err error
		switch {
		case late.size > maxExecutable:
			late.of.Failure = fmt.Sprintf("larger than %d bytes", maxExecutable)
		case hashed+late.size > hashAfter:
			late.of.Failure = fmt.Sprintf("more than %d bytes in one request", hashAfter)
		default:
			hashed += late.size
			if late.of.SHA256, err = hashFile(ctx, late.file); err != nil {
				late.of.Failure = err.Error()
				break
			}
			w.finder.hashes.add(id, late.of.SHA256)
		}
		out = append(out, late.of)
	}
	return out
}

// Close closes what Record left open for HashLater.
func (w *Walked) Close() {
	for _, late := range w.late {
		late.file.Close()
	}
	w.late = nil
}

// hashFile hashes a file in steps, between which it may be stopped.
func hashFile(ctx context.Context, f *os.File) (string, error) {
	hash := sha256.New()
	for left := int64(maxExecutable); left > 0; left -= 1 << 20 {
		n, err := io.CopyN(hash, f, 1<<20)
		if err == io.EOF || err == nil && n < 1<<20 {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
