// Package cli holds what every command of both binaries shares: exit codes,
// errors with a hint, output formats and progress. It knows nothing of the domain.
//
// Rules of the command line: stdout carries only what was asked for, all else
// goes to stderr; nothing depends on colour; a hint follows an error on its
// own line; times are RFC 3339 in UTC.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes of both binaries.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitFound       = 3 // a check ran and found something
	ExitInterrupted = 130
)

type exitError struct {
	error
	code int
	hint string
}

func (e *exitError) Unwrap() error { return e.error }

// Usage marks err as a mistake on the command line (exit code 2).
func Usage(err error) error { return &exitError{error: err, code: ExitUsage} }

// Found marks err as the result of a check that found something (exit code 3).
func Found(err error) error { return &exitError{error: err, code: ExitFound} }

// Hint adds a line that says what to do next.
func Hint(err error, format string, args ...any) error {
	code := ExitFailed
	if e, ok := errors.AsType[*exitError](err); ok {
		code = e.code
	}
	return &exitError{error: err, code: code, hint: fmt.Sprintf(format, args...)}
}

// Main runs root until it ends or SIGINT or SIGTERM arrives, prints the error
// and returns the exit code.
func Main(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	prepareCommands(root)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitDone
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "%s: interrupted\n", root.Name())
		return ExitInterrupted
	}
	err = explain(cmd, err)
	printError(os.Stderr, root.Name(), err)
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return ExitFailed
}

// printError prints an error, parts of which others may have written.
func printError(w io.Writer, program string, err error) {
	fmt.Fprintf(w, "%s: %s\n", program, escape(describe(err), "\n\t"))
	if e, ok := errors.AsType[*exitError](err); ok && e.hint != "" {
		fmt.Fprintf(w, "hint: %s\n", escape(e.hint, "\n\t"))
	}
}

// prepareCommands sets up cobra for our rules: errors are printed once, by Main, and
// every mistake in flags or arguments is a usage error.
func prepareCommands(root *cobra.Command) {
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.Version = BuildVersion().String()
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetOut(standardOutput())
	root.SetErr(&escapeText{to: os.Stderr})
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return Hint(Usage(describeValue(err)), "see '%s --help'", cmd.CommandPath())
	})
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if check := cmd.Args; check != nil {
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return Hint(Usage(describeArguments(cmd, args, err)), "usage: %s", cmd.UseLine())
				}
				return nil
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// Group is the RunE of a command that only holds others: without arguments it
// prints help; an unknown verb is a usage error, with the nearest one as a hint.
func Group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	err := Usage(fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath()))
	if cmd.SuggestionsMinimumDistance == 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return Hint(err, "did you mean '%s %s'? See '%s --help'", cmd.CommandPath(), near[0], cmd.CommandPath())
	}
	return Hint(err, "see '%s --help'", cmd.CommandPath())
}
