package zeek

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
)

// sniffLength is how much of a file suffices to recognise it.
const sniffLength = 16 << 10

// Is reports whether a file that begins with prefix (a few KiB, decompressed)
// looks like a conn log, as TSV or JSON.
func Is(prefix []byte) bool { return sniffPrefix(prefix) == nil }

// sniffPrefix returns why prefix is not the start of a conn log.
func sniffPrefix(prefix []byte) error {
	prefix = bytes.TrimLeft(prefix, " \t\r\n")
	switch {
	case len(prefix) == 0:
		return errors.New("empty")
	case prefix[0] == '#':
		return sniffHeader(prefix)
	case prefix[0] == '{':
		return sniffJSON(prefix)
	}
	return errors.New("starts neither like Zeek's TSV (a line #separator) nor like JSON")
}

func sniffHeader(prefix []byte) error {
	h := newHeader()
	for line := range bytes.Lines(prefix) {
		if line[0] != '#' || line[len(line)-1] != '\n' {
			break
		}
		h = h.withLine(trimLine(line[:len(line)-1]))
	}
	switch {
	case h.refused != "":
		return errors.New(h.refused)
	case h.path == "" && h.fields == "":
		return errors.New("starts with comments but has no line #path or #fields")
	}
	return nil
}

// connObject matches what distinguishes a conn log's objects from those of
// Zeek's other logs, which also have ts, uid and id.
var connObject = regexp.MustCompile(`"conn_state"\s*:|"_path"\s*:\s*"conn"`)

var jsonPath = regexp.MustCompile(`"_path"\s*:\s*"([^"\\]{0,40})"`)

func sniffJSON(prefix []byte) error {
	if connObject.Match(prefix) {
		return nil
	}
	if m := jsonPath.FindSubmatch(prefix); m != nil {
		return fmt.Errorf("_path is %q: only conn logs hold connections", m[1])
	}
	return errors.New("its JSON objects have neither conn_state nor _path, as lines of a conn log do")
}
