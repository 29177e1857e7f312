package cli

import (
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// NewManual makes the command that writes the manual pages of all commands of a
// program, in a section: "dragnet agent" and "dragnet-agent" would have pages of one
// name.
func NewManual(program, section string) *cobra.Command {
	return &cobra.Command{
		Use:     "manual DIR",
		Short:   "Write the manual pages of all commands into a directory",
		Example: "  " + program + " manual /usr/local/share/man/man" + section,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			writeHelpAsMarkdown(root)
			return doc.GenManTree(root, &doc.GenManHeader{Section: section, Source: program + " " + Release, Manual: "Dragnet"}, args[0])
		},
	}
}

// writeHelpAsMarkdown rewrites the help of cmd and all commands below it as Markdown, as
// which the manual pages read it: text like then[1h] ("later") would be a link,
// and lines that are indented would be joined.
func writeHelpAsMarkdown(cmd *cobra.Command) {
	cmd.Short = escapeMarkup(cmd.Short)
	cmd.Long = escapeParagraphs(cmd.Long)
	cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Usage = escapeMarkup(f.Usage) })
	cmd.PersistentFlags().VisitAll(func(f *pflag.Flag) { f.Usage = escapeMarkup(f.Usage) })
	for _, sub := range cmd.Commands() {
		writeHelpAsMarkdown(sub)
	}
}

// escapeParagraphs escapes text, and fences the paragraphs that have indented
// lines.
func escapeParagraphs(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		if indented.MatchString(p) {
			paragraphs[i] = "```\n" + p + "\n```"
		} else {
			paragraphs[i] = escapeMarkup(p)
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

// indented matches text with a line that begins with a blank.
var indented = regexp.MustCompile(`(?m)^[ \t]`)

// markup is what Markdown gives a meaning.
var markup = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", `\<`, ">", `\>`)

func escapeMarkup(text string) string { return markup.Replace(text) }
