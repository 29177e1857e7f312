package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
)

// TestErrorsAreExplained: every error has a second line, and is not in a library's words.
func TestErrorsAreExplained(t *testing.T) {
	_, missing := os.Open(t.TempDir() + "/x")
	var n struct{ Port int }
	cmd := &cobra.Command{Use: "program"}
	for _, c := range []struct {
		err        error
		code       int
		said, hint string
	}{
		{fmt.Errorf("a.json: %w", json.Unmarshal([]byte("hello"), &n)), ExitFailed, "a.json: not JSON, from byte 1 on", "right file"},
		{fmt.Errorf("a.json: %w", json.Unmarshal([]byte(`{"Port":"x"}`), &n)), ExitFailed, `a.json: "Port" is a string, which does not belong there`, "right file"},
		{fmt.Errorf("a.json: %w", io.ErrUnexpectedEOF), ExitFailed, "a.json: it ends too early", "whole"},
		{missing, ExitFailed, "no such file", "is the name right"},
		{fmt.Errorf("state: %w", os.ErrPermission), ExitFailed, "permission", "you may not"},
		{fmt.Errorf("dial: %w", syscall.ECONNREFUSED), ExitFailed, "refused", "nothing listens"},
		{errors.New("at least one of the flags in the group [all near] is required"), ExitUsage, "one is missing of --all, --near", "see 'program --help'"},
		{errors.New("if any flags in the group [a b c] are set none of the others can be; [a b] were all set"), ExitUsage, "--a and --b cannot go together", "see 'program --help'"},
		{errors.New(`required flag(s) "x" not set`), ExitUsage, "--x: missing", "see 'program --help'"},
		{Usage(errors.New("no")), ExitUsage, "no", "see 'program --help'"},
		{Hint(errors.New("no"), "do it"), ExitFailed, "no", "do it"},
		{errors.New("anything"), ExitFailed, "anything", "troubleshoot.md"},
	} {
		got := explain(cmd, c.err)
		e, ok := errors.AsType[*exitError](got)
		if !ok || e.code != c.code || !strings.Contains(e.hint, c.hint) {
			t.Errorf("%v: %+v, want code %d and hint %q", c.err, got, c.code, c.hint)
		}
		if said := describe(got); !strings.Contains(said, c.said) {
			t.Errorf("%v: says %q, want %q", c.err, said, c.said)
		}
	}
}
