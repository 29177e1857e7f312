// Package reference writes the generated pages under docs/reference: the
// command line from the tree of commands, the configuration from the comments
// of its structs. Nothing in the binaries uses it.
package reference

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const generated = "<!-- Written by 'make gen'; edit the Go source named below instead. -->\n\n"

// CLI is the page on the command line of root and everything below it, as
// Markdown. Hidden commands are left out.
func CLI(root *cobra.Command) []byte {
	var b bytes.Buffer
	b.WriteString(generated)
	fmt.Fprintf(&b, "# Command line of %s\n\n%s.\n\n", root.Name(), root.Short)
	fmt.Fprintf(&b, "Source: `cmd/%s`. Rules that hold for every command (exit codes, output, time): `internal/cli`.\n\n", root.Name())
	b.WriteString("| command | does |\n|---|---|\n")
	visitCommands(root, func(cmd *cobra.Command) {
		if cmd.HasParent() {
			anchor := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
			fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", cmd.CommandPath(), anchor, escapeCell(cmd.Short))
		}
	})
	visitCommands(root, func(cmd *cobra.Command) { writeCommand(&b, cmd) })
	return b.Bytes()
}

func visitCommands(cmd *cobra.Command, f func(*cobra.Command)) {
	if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
		return
	}
	f(cmd)
	for _, sub := range cmd.Commands() {
		visitCommands(sub, f)
	}
}

func writeCommand(b *bytes.Buffer, cmd *cobra.Command) {
	if cmd.HasAvailableSubCommands() && !cmd.HasParent() {
		return // the table above has its text
	}
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n", cmd.CommandPath(), strings.TrimSpace(text))
	if cmd.HasAvailableSubCommands() {
		return
	}
	fmt.Fprintf(b, "\n```\n%s\n```\n", cmd.UseLine())
	if flags := cmd.LocalFlags().FlagUsages(); flags != "" {
		fmt.Fprintf(b, "\n```\n%s```\n", flags)
	}
	if cmd.Example != "" {
		fmt.Fprintf(b, "\nExample:\n\n```\n%s\n```\n", strings.TrimRight(cmd.Example, "\n"))
	}
}

// escapeCell makes text fit a Markdown table.
func escapeCell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}
