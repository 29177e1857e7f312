// Package packets makes flows out of captured packets, with the states,
// histories and counts that Zeek would log for them.
//
// An Assembler takes decoded packets one by one. Open and Scan drive it with
// capture files. What Zeek calls a connection is a flow here: TCP connections,
// exchanges of UDP datagrams between two ports, ICMP requests with their
// replies, and packets of other protocols between two addresses. ICMP errors
// are flows of their own and are noted at the flow they quote.
//
// It differs from Zeek in these points. Checksums that the sending host left
// to its network card are taken as good. Tunnels are not unwrapped. Protocols
// are not recognised by their content, so FTP and SSH on other ports than
// their own get no longer timeouts. Sizes of a single packet are stated, where
// Zeek logs none. IPv6 fragments that overlap are dropped.
package packets

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"dragnet/packet/capture"
)

// Log is a set of capture files read as one recording in the order of time:
// the files of a rotated capture, or those of several taps.
type Log struct {
	// Config may be changed between Open and Scan.
	Config Configuration
	// Checksums says what wrong checksums mean; Config.IgnoreChecksums has no
	// effect.
	Checksums Checksums
	files     []string
}

// Checksums says what wrong checksums in a capture file mean.
type Checksums uint8

const (
	// JudgeChecksums looks at the first packets of each file. If most are
	// wrong, somebody rewrote the addresses, and checksums tell nothing.
	JudgeChecksums Checksums = iota
	// VerifyChecksums leaves out packets with a wrong checksum.
	VerifyChecksums
	// IgnoreChecksums takes them as good.
	IgnoreChecksums
)

// Is reports whether prefix, the first bytes of a file after decompression,
// look like a capture file. Four bytes suffice.
func Is(prefix []byte) bool { return capture.Is(prefix) }

// Open names the capture files to read. A directory stands for all capture
// files below it.
func Open(paths ...string) (*Log, error) {
	l := &Log{Config: DefaultConfiguration()}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			l.files = append(l.files, path)
			continue
		}
		if err := l.below(path); err != nil {
			return nil, err
		}
	}
	if len(l.files) == 0 {
		return nil, errors.New("no capture file given")
	}
	return l, nil
}

// below adds the capture files of a directory, links to files included; other
// files are passed over.
func (l *Log) below(dir string) error {
	before := len(l.files)
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return nil // a directory, a device, a link to nowhere
		}
		f, err := capture.Open(path)
		switch {
		case errors.Is(err, fs.ErrPermission):
			return err
		case err != nil:
			return nil
		}
		l.files = append(l.files, path)
		return f.Close()
	})
	if err != nil {
		return err
	}
	if len(l.files) == before {
		return fmt.Errorf("%s holds no capture file (pcap or pcapng, plain or gzip)", dir)
	}
	slices.Sort(l.files[before:])
	return nil
}
