package zeek

import (
	"bytes"
	"strings"
)

// crlf gives log the line ends of a copy by way of Windows.
func crlf(log string) string { return strings.ReplaceAll(log, "\n", "\r\n") }

// withoutHeader drops the lines that begin with #.
func withoutHeader(log []byte) (out []byte) {
	for line := range bytes.Lines(log) {
		if line[0] != '#' {
			out = append(out, line...)
		}
	}
	return out
}

// jsonWithoutEscapes is smallJSON without the lines that need a copy.
func jsonWithoutEscapes() string {
	var out strings.Builder
	for line := range strings.Lines(smallJSON) {
		if !strings.Contains(line, `\`) {
			out.WriteString(line)
		}
	}
	return out.String()
}
