package packets

import (
	"errors"
	"os"

	"dragnet/flow"
	"dragnet/packet"
	"dragnet/packet/capture"
)

// preview is the result of reading the start of a capture file.
type preview struct {
	// first is the time of the first packet.
	first flow.Time
	// rewritten says that checksums are unusable: most of the first packets
	// have a wrong one, as in captures with replaced addresses.
	rewritten bool
}

// A file is judged by its first packets, if it has at least fewest.
const (
	judgedPackets = 256
	fewestPackets = 8
)

// previewFile reads the first packets of a file. A pipe can be read only once,
// so its preview is empty.
func previewFile(path string) (preview, error) {
	l := preview{first: flow.MinTime}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return l, err
	}
	f, err := capture.Open(path)
	if err != nil {
		return l, err
	}
	defer f.Close()
	var p packet.Packet
	var skip *capture.SkipError
	checked, wrong := 0, 0
	for n := 0; n < judgedPackets; {
		rec, err := f.Next()
		if errors.As(err, &skip) {
			continue
		}
		if err != nil {
			break
		}
		if n++; n == 1 {
			l.first = rec.Time
		}
		if p.Decode(rec.Link, rec.Data, rec.Wire) != nil {
			continue
		}
		checked++
		if p.HeaderChecksum() == packet.ChecksumBad || p.Checksum() == packet.ChecksumBad {
			wrong++
		}
	}
	l.rewritten = checked >= fewestPackets && wrong > checked/2
	return l, nil
}
