package vault

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"
)

// Sessions calls do with each session kept in a directory, the oldest first. A
// line that a crash cut is left out. What was recorded while a clock was wrong is
// where that clock put it.
func Sessions(dir string, do func(*Line) error) error {
	return eachLine(dir, func(l *Line, _ int) error { return do(l) })
}

// eachLine also gives the length of lines.
func eachLine(dir string, do func(l *Line, n int) error) error {
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

func readDay(path string, do func(*Line, int) error) error {
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
		if err := do(&l, len(lines.Bytes())+1); err != nil {
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
