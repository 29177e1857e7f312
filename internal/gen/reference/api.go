package reference

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

// API is the page on the calls that .proto files describe, as Markdown, with the
// comments of the files. root is the folder of go.mod; files are below it. It
// understands what this project's files use: services of unary or streaming
// calls, and messages with one field per line.
func API(root string, files ...string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(generated)
	b.WriteString(`# API of the node

A call is an HTTP POST to the path below, of JSON with ` + "`Content-Type: application/json`" + `, or of protobuf by any client of
[Connect](https://connectrpc.com) or gRPC. Operators use the Unix socket, or TLS with a certificate of role operator. Names
in JSON may be as below or in lowerCamelCase, as answers have them; a 64-bit number in JSON is a string, bytes are base64,
a timestamp is RFC 3339. An answer leaves out what is empty or 0. How to call it: [enrol an agent](../how-to/enrol-an-agent.md).

An error has an HTTP status other than 200 and the body ` + "`{\"code\": ..., \"message\": ...}`" + `. A list gives pages: ask for the
next with its ` + "`next_cursor`" + ` as ` + "`cursor`" + ` and nothing but the page's size beside it. Fields are added, never changed; a caller
passes over those it does not know.
`)
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return nil, err
		}
		p := proto{}
		if err := p.readLines(string(text)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(&b, "\n## %s\n\nSource: `%s`. %s\n", p.name, name, p.comment)
		b.Write(p.services.Bytes())
		fmt.Fprintf(&b, "\n### Messages of %s\n", p.name)
		b.Write(p.tables.Bytes())
	}
	return b.Bytes(), nil
}

// proto is one file, read line by line.
type proto struct {
	name, comment string
	services      bytes.Buffer
	tables        bytes.Buffer
	// pending are the comment lines since the last declaration.
	pending []string
	// service and message contain the current line; rows says whether the table
	// of the message was started.
	service, message string
	rows             bool
}

var (
	rpcLine   = regexp.MustCompile(`^rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\);$`)
	fieldLine = regexp.MustCompile(`^(repeated |optional )?([\w.]+|map<\w+, \w+>) (\w+) = (\d+);$`)
)

func (p *proto) readLines(text string) error {
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if comment, ok := strings.CutPrefix(line, "//"); ok {
			p.pending = append(p.pending, strings.TrimSpace(comment))
			continue
		}
		if err := p.readLine(line); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if line != "" || p.message == "" {
			p.pending = nil
		}
	}
	return nil
}

func (p *proto) readLine(line string) error {
	comment := strings.Join(p.pending, " ")
	word, rest, _ := strings.Cut(line, " ")
	rpc, field := rpcLine.FindStringSubmatch(line), fieldLine.FindStringSubmatch(line)
	switch {
	case word == "package":
		p.name, p.comment = strings.TrimSuffix(rest, ";"), comment
	case word == "service":
		p.service = strings.TrimSuffix(rest, " {")
		fmt.Fprintf(&p.services, "\n### %s\n\n%s\n", p.service, comment)
	case word == "message":
		p.message, p.rows = strings.TrimSuffix(strings.TrimSuffix(rest, " {}"), " {"), false
		fmt.Fprintf(&p.tables, "\n#### %s\n\n", p.message)
		if comment != "" {
			fmt.Fprintf(&p.tables, "%s\n\n", comment)
		}
		if strings.HasSuffix(line, "{}") {
			fmt.Fprint(&p.tables, "No fields.\n")
			p.message = ""
		}
	case rpc != nil && p.service != "":
		p.writeCall(rpc, comment)
	case field != nil && p.message != "":
		p.writeField(field, comment)
	case line == "}":
		p.service, p.message = "", ""
	case line == "", word == "syntax", word == "import", word == "option":
	default:
		return fmt.Errorf("%q is not understood", line)
	}
	return nil
}

func (p *proto) writeCall(rpc []string, comment string) {
	stream := ""
	if rpc[4] != "" {
		stream = "a stream of "
	}
	fmt.Fprintf(&p.services, "\n`POST /%s.%s/%s`\n\n%s Takes %s, gives %s%s.\n", p.name, p.service, rpc[1], comment, linkMessage(rpc[3]), stream, linkMessage(rpc[5]))
}

func (p *proto) writeField(f []string, comment string) {
	if !p.rows {
		fmt.Fprint(&p.tables, "| field | type | meaning |\n|---|---|---|\n")
		p.rows = true
	}
	kind := strings.TrimPrefix(f[2], "google.protobuf.")
	if unicode.IsUpper(rune(kind[0])) && kind == f[2] {
		kind = linkMessage(kind)
	}
	switch f[1] {
	case "repeated ":
		kind = "list of " + kind
	case "optional ":
		kind += ", may be absent"
	}
	if comment == "" {
		comment = "-"
	}
	fmt.Fprintf(&p.tables, "| `%s` | %s | %s |\n", f[3], kind, escapeCell(comment))
}

func linkMessage(message string) string {
	return fmt.Sprintf("[%s](#%s)", message, strings.ToLower(message))
}
