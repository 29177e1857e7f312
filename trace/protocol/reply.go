package protocol

import (
	"fmt"
	"strings"
)

// TokenLength is the length of every token this implementation sends: 32 bytes
// in hex. One length for all kinds and answers, as the paper asks.
const TokenLength = 64

// Words of an error reply (RFC 1413, section 4). HIDDEN-USER is only ever
// received: tokens made it unnecessary.
const (
	InvalidPort  = "INVALID-PORT"
	NoUser       = "NO-USER"
	HiddenUser   = "HIDDEN-USER"
	UnknownError = "UNKNOWN-ERROR"
)

// Reply is one answer: either Error is set, or System and User are.
type Reply struct {
	Ports
	// System is OTHER from a STOP daemon and from the more private ident
	// daemons, else UNIX or another name.
	System, Charset string
	// User is a token or, from a plain ident daemon, a user's name: up to 512
	// octets without NUL, CR and LF.
	User  string
	Error string
}

// TokenReply answers q with a token.
func TokenReply(p Ports, token string) Reply { return Reply{Ports: p, System: "OTHER", User: token} }

// ErrorReply answers q with one of the error words.
func ErrorReply(p Ports, word string) Reply { return Reply{Ports: p, Error: word} }

// Token is the token in r. Anything else is the answer of a plain ident daemon:
// it ignores what STOP adds to a request and answers with a name, which must
// never be passed on as a token.
func (r Reply) Token() (string, bool) {
	if r.Error != "" || r.System != "OTHER" || !IsToken(r.User) {
		return "", false
	}
	return r.User, true
}

// IsToken reports whether s has the shape of a token: lower-case hex of one
// length.
func IsToken(s string) bool {
	if len(s) != TokenLength {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// String is the reply on the wire, without the end of line.
func (r Reply) String() string {
	if r.Error != "" {
		return fmt.Sprintf("%d,%d:ERROR:%s", r.Asked, r.Asking, r.Error)
	}
	system := r.System
	if r.Charset != "" {
		system += "," + r.Charset
	}
	return fmt.Sprintf("%d,%d:USERID:%s:%s", r.Asked, r.Asking, system, r.User)
}

// ParseReply reads a line without its end, from a STOP daemon or from any
// other ident daemon. White space after the last colon belongs to the user
// (RFC 1413, section 6).
func ParseReply(line string) (Reply, error) {
	pair, rest, ok := strings.Cut(line, ":")
	if !ok {
		return Reply{}, fmt.Errorf("reply %q has no colon", clipText(line))
	}
	var r Reply
	var err error
	if r.Ports, err = parsePorts(pair); err != nil {
		return Reply{}, fmt.Errorf("reply %q: %w", clipText(line), err)
	}
	word, rest, ok := strings.Cut(rest, ":")
	if !ok {
		return Reply{}, fmt.Errorf("reply %q says neither USERID nor ERROR", clipText(line))
	}
	switch trimSpace(word) {
	case "ERROR":
		r.Error = trimSpace(rest)
		return r, checkError(r.Error)
	case "USERID":
		return r, r.parseUser(rest)
	}
	return Reply{}, fmt.Errorf("reply of type %q", clipText(word))
}

func (r *Reply) parseUser(s string) error {
	system, user, ok := strings.Cut(s, ":")
	if !ok {
		return fmt.Errorf("USERID reply without a user")
	}
	system, charset, _ := strings.Cut(system, ",")
	r.System, r.Charset, r.User = trimSpace(system), trimSpace(charset), user
	if r.System == "OTHER" {
		r.User = trimSpace(user)
	}
	switch {
	case r.System == "" || len(r.System) > 64 || !isPrintable(r.System) || !isPrintable(r.Charset):
		return fmt.Errorf("operating system %q is not a word", clipText(r.System))
	case r.User == "" || len(user) > 512:
		return fmt.Errorf("user of %d octets; 1 to 512 are allowed", len(user))
	case strings.ContainsAny(user, "\x00\r\n"):
		return fmt.Errorf("user with NUL, CR or LF")
	}
	return nil
}

func checkError(word string) error {
	switch word {
	case InvalidPort, NoUser, HiddenUser, UnknownError:
		return nil
	}
	if len(word) < 2 || len(word) > 64 || word[0] != 'X' || !isPrintable(word) || strings.Contains(word, ":") {
		return fmt.Errorf("error word %q is not in RFC 1413", clipText(word))
	}
	return nil
}

func isPrintable(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
