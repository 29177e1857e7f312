package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dragnet/internal/hint"
)

// explain returns an error as Main prints it: in our words where it is one of a
// library's, and with a hint, its own or that of its kind.
func explain(cmd *cobra.Command, err error) error {
	if e, ok := errors.AsType[*exitError](err); ok {
		if e.hint == "" && e.code != ExitFound {
			return Hint(err, "%s", hintFor(cmd, err, e.code))
		}
		return err
	}
	code := ExitFailed
	if text, ok := describeFlags(err.Error()); ok {
		err, code = Usage(errors.New(text)), ExitUsage
	}
	return Hint(err, "%s", hintFor(cmd, err, code))
}

// hintFor says what to do about a kind of error.
func hintFor(cmd *cobra.Command, err error, code int) string {
	own := hint.Of(err)
	switch {
	case own != "":
		return own
	case code == ExitUsage:
		return fmt.Sprintf("see '%s --help'", cmd.CommandPath())
	case errors.Is(err, fs.ErrNotExist):
		return "is the name right? Paths are relative to the folder you are in"
	case errors.Is(err, fs.ErrPermission):
		return "you may not; ask as the user or group that owns it, or with sudo"
	case errors.Is(err, fs.ErrExist):
		return "name another, or move it away first"
	case errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTDIR):
		return "is the name right? 'ls -ld' shows whether it is a file or a folder"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "make room; 'df -h' shows which disk is full"
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program listens there; 'ss -ltnp' shows which"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: is it running, and are address and port right?"
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "no answer came: is the address right, and does a firewall let it through?"
	case isResolving(err):
		return "is the name of the host right, and does DNS answer?"
	case isCertificate(err):
		return "the other side is not who it should be; compare its key with its owner before you go on"
	case isSyntax(err):
		return "is it the right file, and whole?"
	}
	return fmt.Sprintf("see '%s --help', and docs/how-to/troubleshoot.md", cmd.CommandPath())
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

func isResolving(err error) bool {
	_, ok := errors.AsType[*net.DNSError](err)
	return ok
}

func isCertificate(err error) bool {
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	return verification || authority || host
}

func isSyntax(err error) bool {
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, kind := errors.AsType[*json.UnmarshalTypeError](err)
	return syntax || kind || errors.Is(err, io.ErrUnexpectedEOF)
}

// describe returns the text of an error, with what libraries say in the terms of their
// code put as it is meant for the reader of a file.
func describe(err error) string {
	text := err.Error()
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		text = strings.ReplaceAll(text, e.Error(), fmt.Sprintf("not JSON, from byte %d on", e.Offset))
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		where := "the document"
		if e.Field != "" {
			where = strconv.Quote(e.Field)
		}
		text = strings.ReplaceAll(text, e.Error(), fmt.Sprintf("%s is a %s, which does not belong there", where, e.Value))
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		text = strings.ReplaceAll(text, io.ErrUnexpectedEOF.Error(), "it ends too early")
	} else if errors.Is(err, io.EOF) {
		text = strings.ReplaceAll(text, ": "+io.EOF.Error(), ": it is empty, or ends too early")
	}
	for _, call := range []string{"open ", "stat ", "lstat ", "mkdir ", "fstatat ", "openat "} {
		if e, ok := errors.AsType[*fs.PathError](err); ok && e.Op+" " == call {
			text = strings.ReplaceAll(text, e.Error(), e.Path+": "+e.Err.Error())
		}
	}
	return text
}

var (
	oneOfFlags  = regexp.MustCompile(`^at least one of the flags in the group \[(.*)\] is required$`)
	noneOrOne   = regexp.MustCompile(`^if any flags in the group \[(.*)\] are set none of the others can be; \[(.*)\] were all set$`)
	allOfFlags  = regexp.MustCompile(`^if any flags in the group \[(.*)\] are set they must all be set; missing \[(.*)\]$`)
	neededFlags = regexp.MustCompile(`^required flag\(s\) (.*) not set$`)
	arguments   = regexp.MustCompile(`^(accepts|requires at least|accepts at most|accepts between) (.*?) arg\(s\), (?:only )?received (\d+)$`)
)

// describeFlags puts cobra's errors about groups of flags as a person would.
func describeFlags(text string) (string, bool) {
	names := func(list, with string) string {
		all := strings.Fields(strings.NewReplacer(`"`, "", ",", "").Replace(list))
		for i := range all {
			all[i] = "--" + all[i]
		}
		return strings.Join(all, with)
	}
	if m := oneOfFlags.FindStringSubmatch(text); m != nil {
		return "one is missing of " + names(m[1], ", "), true
	}
	if m := noneOrOne.FindStringSubmatch(text); m != nil {
		return names(m[2], " and ") + " cannot go together", true
	}
	if m := allOfFlags.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%s: missing, which belongs to %s", names(m[2], ", "), names(m[1], ", ")), true
	}
	if m := neededFlags.FindStringSubmatch(text); m != nil {
		return names(m[1], " and ") + ": missing", true
	}
	return text, false
}

// describeArguments puts cobra's errors about the number of arguments as a person would.
func describeArguments(cmd *cobra.Command, args []string, err error) error {
	m := arguments.FindStringSubmatch(err.Error())
	switch {
	case strings.HasPrefix(err.Error(), "unknown command") && len(args) > 0:
		return fmt.Errorf("%.80q: '%s' takes no arguments", args[0], cmd.CommandPath())
	case m == nil:
		return err
	case len(args) == 0:
		return errors.New("an argument is missing")
	}
	want := map[string]string{"accepts": "", "requires at least": "at least ", "accepts at most": "at most ", "accepts between": "between "}[m[1]] + m[2]
	return fmt.Errorf("%s given, want %s", Plural(len(args), "argument"), want)
}

// describeValue puts an error about the value of a flag as a person would.
func describeValue(err error) error {
	e, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	want := ""
	switch kind := strings.TrimRight(e.GetFlag().Value.Type(), "0123456789"); kind {
	case "int", "count":
		want = "want a whole number"
	case "uint":
		want = "want a whole number that is not negative"
	case "float":
		want = "want a number"
	case "duration":
		want = "want a duration such as 90s, 30m or 24h"
	case "bool":
		want = "want true or false"
	default:
		want = e.Unwrap().Error()
	}
	return fmt.Errorf("--%s %.80q: %s", e.GetFlag().Name, e.GetValue(), want)
}
