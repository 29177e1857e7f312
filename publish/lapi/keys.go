package lapi

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Keys are the API keys of bouncers: a file with a name and the SHA-256 of a
// key on each line. A key that was added or removed counts within a second.
type Keys struct {
	path string

	mu      sync.Mutex
	looked  time.Time
	changed time.Time
	names   map[[sha256.Size]byte]string
}

const maxKeys = 100_000

// OpenKeys reads a file of keys.
func OpenKeys(path string) (*Keys, error) {
	k := &Keys{path: path}
	return k, k.readFile(time.Now())
}

func (k *Keys) readFile(now time.Time) error {
	k.looked = now
	info, err := os.Stat(k.path)
	if err != nil || info.ModTime().Equal(k.changed) {
		return err
	}
	data, err := os.ReadFile(k.path)
	if err != nil {
		return err
	}
	names, err := parseKeys(data)
	if err != nil {
		return fmt.Errorf("%s: %w", k.path, err)
	}
	k.changed, k.names = info.ModTime(), names
	return nil
}

// parseKeys reads names by the hash of their key.
func parseKeys(data []byte) (map[[sha256.Size]byte]string, error) {
	names := map[[sha256.Size]byte]string{}
	scan := bufio.NewScanner(bytes.NewReader(data))
	for line := 1; scan.Scan(); line++ {
		text := strings.TrimSpace(scan.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		name, hash, _ := strings.Cut(text, " ")
		sum, err := hex.DecodeString(strings.TrimSpace(hash))
		if err != nil || len(sum) != sha256.Size || len(names) == maxKeys {
			return nil, fmt.Errorf("line %d: want a name and the SHA-256 of a key in 64 hexadecimal digits", line)
		}
		names[[sha256.Size]byte(sum)] = name
	}
	return names, scan.Err()
}

// Name finds who holds a key. How long that takes reveals at most its hash.
func (k *Keys) Name(key string) (string, bool) {
	sum := sha256.Sum256([]byte(key))
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); now.Sub(k.looked) >= time.Second {
		_ = k.readFile(now) // a file that cannot be read changes nothing
	}
	name, found := k.names[sum]
	return name, found && key != ""
}

// KeyLine is the line of a file of keys for a bouncer.
func KeyLine(name, key string) string {
	return fmt.Sprintf("%s %x", name, sha256.Sum256([]byte(key)))
}
