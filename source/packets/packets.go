// Package packets turns captured packets into flows, with the states, histories
// and counts that Zeek would log for them.
//
// An Assembler takes decoded packets one by one. Open and Scan drive it with
// capture files. A connection in Zeek's terms is a flow here: TCP connections,
// exchanges of UDP datagrams between two ports, ICMP requests with their
// replies, and packets of other protocols between two addresses. ICMP errors
// are separate flows and are also recorded at the flow they quote.
//
// It differs from Zeek in these points. Checksums that the sending host left to
// its network card are accepted. Tunnels are not unwrapped. Protocols are not
// recognised by their content, so FTP and SSH on other ports do not get longer
// timeouts. Sizes of a single packet are stated, where Zeek logs none. IPv6
// fragments that overlap are dropped.
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

// Recording is a set of capture files read as one recording in the order of time:
// the files of a rotated capture, or those of several taps.
type Recording struct {
	// Config may be changed between Open and Scan.
	Config Configuration
	// Checksums is how to treat wrong checksums; Config.IgnoreChecksums has no
	// effect.
	Checksums Checksums
	files     []string
}

// Checksums is how to treat wrong checksums in a capture file.
type Checksums uint8

const (
	// JudgeChecksums examines the first packets of each file. If most are
	// wrong, the addresses were rewritten, and checksums are ignored.
	JudgeChecksums Checksums = iota
	// VerifyChecksums leaves out packets with a wrong checksum.
	VerifyChecksums
	// IgnoreChecksums accepts them.
	IgnoreChecksums
)

// Is reports whether prefix, the first bytes of a file after decompression,
// look like a capture file. Four bytes suffice.
func Is(prefix []byte) bool { return capture.Is(prefix) }

// Open finds the capture files to read. A directory means all capture files
// below it.
func Open(paths ...string) (*Recording, error) {
	l := &Recording{Config: DefaultConfiguration()}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			l.files = append(l.files, path)
			continue
		}
		if err := l.addDirectory(path); err != nil {
			return nil, err
		}
	}
	if len(l.files) == 0 {
		return nil, errors.New("no capture file given")
	}
	return l, nil
}

// addDirectory adds the capture files of a directory, including links to files;
// other files are skipped.
func (l *Recording) addDirectory(dir string) error {
	before := len(l.files)
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return nil // a directory, a device, a broken link
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
		return fmt.Errorf("%s holds no capture file (pcap or pcapng, plain or compressed)", dir)
	}
	slices.Sort(l.files[before:])
	return nil
}
