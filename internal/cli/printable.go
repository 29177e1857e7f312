package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Printable replaces what a terminal would obey, or a reader could not see, by its
// code: control characters, also those of Latin-1, which begin escape sequences;
// marks that turn the direction of text; invisible characters; bytes that are not
// UTF-8. Names, logs and answers come from others, who could otherwise clear the
// screen or forge rows.
func Printable(s string) string { return escape(s, "") }

// escape is Printable, but for the characters in keep.
func escape(s, keep string) string {
	clean := true
	for _, r := range s {
		if isHidden(r) && !strings.ContainsRune(keep, r) {
			clean = false
			break
		}
	}
	if clean && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case !isHidden(r) || strings.ContainsRune(keep, r):
			b.WriteString(s[:size])
		default: // as in JSON, where it means the same
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, `\u%04x`, unit)
			}
		}
		s = s[size:]
	}
	return b.String()
}

func isHidden(r rune) bool {
	return unicode.Is(unicode.C, r) || r == '\u2028' || r == '\u2029'
}

// escapeText writes text on, with all but line feeds and tabs made Printable.
type escapeText struct {
	to io.Writer
	// columns is the width of the terminal that is written to; 0 if it is none.
	columns int

	mu   sync.Mutex
	left []byte // the beginning of a character
}

// Write implements io.Writer.
func (w *escapeText) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	data := append(w.left, p...)
	end := len(data)
	for back := 1; back < utf8.UTFMax && back <= len(data); back++ { // a character may be cut
		if at := len(data) - back; utf8.RuneStart(data[at]) {
			if !utf8.FullRune(data[at:]) {
				end = at
			}
			break
		}
	}
	w.left = append([]byte(nil), data[end:]...)
	if _, err := io.WriteString(w.to, escape(string(data[:end]), "\n\t")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Columns is the width of the terminal that is written to, in characters; 0 if it is
// none, or not known.
func (w *escapeText) Columns() int { return w.columns }

// standardOutput is os.Stdout; what a terminal shows is escaped, what a program
// reads is not.
func standardOutput() io.Writer {
	if !isTerminal(os.Stdout) {
		return os.Stdout
	}
	w := &escapeText{to: os.Stdout}
	if size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ); err == nil {
		w.columns = int(size.Col)
	}
	return w
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
