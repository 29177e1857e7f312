package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestManualKeepsText writes the manual of help that looks like Markdown: nothing
// of it may be read as a link, as emphasis or as one line.
func TestManualKeepsText(t *testing.T) {
	root := &cobra.Command{Use: "program"}
	sub := &cobra.Command{
		Use:   "ask FILE_NAME",
		Short: "Ask with then[1h] (later)",
		Long: `Clues combine with then[1h] ("later, within an hour").

  in  src=ADDRESS     the other host is the source
  out dst=ADDRESS     the other host is the destination

Write <name> and *all*, not a_b_c.`,
		Run: func(*cobra.Command, []string) {},
	}
	sub.Flags().String("window", "", "such as then[1h] (one hour)")
	root.AddCommand(sub, NewManual("program", "8"))
	dir := t.TempDir()
	root.SetArgs([]string{"manual", dir})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "program-ask.8"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(`\-`, "-", `\(la`, "<", `\(ra`, ">", `\[la]`, "<", `\[ra]`, ">").Replace(string(page))
	for _, want := range []string{
		`then[1h] ("later, within an hour")`,
		"  in  src=ADDRESS     the other host is the source\n  out dst=ADDRESS     the other host is the destination\n",
		"<name> and *all*, not a_b_c",
		"such as then[1h] (one hour)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not have %q:\n%s", want, page)
		}
	}
}
