package sequence

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"dragnet/flow"
)

// Folders of honeypots and sensors hold captured files beside records about them, and
// some records hold the payload itself:
//
//	cowrie      downloads/SHA256 are captured files; of log/cowrie.json*, what was typed
//	            in a session is a sequence; terminal recordings (tty/) repeat it
//	dionaea     binaries/MD5 are captured files; bistreams/DAY/* are both sides of a
//	            connection, written as a Python list
//	glutton     events of its producer, one JSON object a line, with payloads in base64
//	Suricata    filestore/ab/SHA256 are extracted files; *.json beside them, and tmp/,
//	            are not, nor is eve.json
//	our trap    payloads/ are what sessions/ tell of, encrypted: a Vault reads them

// recordsOf names the file names that hold records, not payload.
var recordsOf = regexp.MustCompile(`(^|/)(eve(-[^/]*)?\.json(\.\d+)?|[0-9a-f]{64}\.\d+\.\d+\.json|tty/[^/]+|filestore/tmp/[^/]+|cowrie\.log(\.[^/]*)?)$`)

// bistreamHead starts a stream that dionaea recorded (proc_streamdumper_on_io).
var bistreamHead = []byte("stream = [('")

// maxLine bounds a line of a honeypot's log.
const maxLine = 16 << 20

// readRecorded reads b if it is a honeypot's own format; ok is false if it is not.
func (r *reader) readRecorded(name string, b *bufio.Reader) (ok bool, err error) {
	head, _ := b.Peek(1)
	if len(head) > 0 && (head[0] == '{' || head[0] == bistreamHead[0]) {
		head, _ = b.Peek(1 << 12)
	}
	switch {
	case recordsOf.MatchString(filepath.ToSlash(name)):
		r.Records++
		return true, nil
	case bytes.HasPrefix(head, bistreamHead):
		return true, r.readBistream(name, b)
	case bytes.HasPrefix(head, []byte("{")) && bytes.Contains(head, []byte(`"eventid":`)) && bytes.Contains(head, []byte(`"cowrie.`)):
		return true, r.readLines(name, b, r.cowrieLine())
	case bytes.HasPrefix(head, []byte("{")) && bytes.Contains(head, []byte(`"sensorID":`)) && bytes.Contains(head, []byte(`"transport":`)):
		return true, r.readLines(name, b, r.gluttonLine)
	}
	return false, nil
}

// serviceName finds the port that a connection was to in the name of a bistream:
// protocol-local address-local port-remote address-remote port-time-random.
var serviceName = regexp.MustCompile(`^[A-Za-z0-9]+-[0-9a-f.:]+-(\d{1,5})-`)

func (r *reader) readBistream(name string, b *bufio.Reader) error {
	var sinks [2]Sink
	end := func() {
		for _, s := range sinks {
			if s != nil {
				s.End()
			}
		}
	}
	defer end()
	err := parseBistream(b, func(in bool, chunk []byte) {
		dir, suffix := 0, ToServer
		if !in {
			dir, suffix = 1, ToClient
		}
		if sinks[dir] == nil {
			if m := serviceName.FindStringSubmatch(filepath.Base(name)); m != nil && in {
				r.countService(flow.TCP, parsePort(m[1]))
			}
			sinks[dir] = r.openSequence(name+suffix, nil)
		}
		sinks[dir].Write(chunk)
	})
	if err != nil { // what came before is usable
		r.countSkipped(fmt.Sprintf("%s: %v", name, err))
	}
	return r.ctx.Err()
}

// errBistream says that a file that begins as a bistream does not go on as one.
var errBistream = errors.New("not a bistream of dionaea")

// parseBistream reads stream = [('in', b'...'),\n('out', b'...')], where bytes that are
// not printable, and ' and \, are written as \xhh, and gives chunks of up to 4096 bytes.
func parseBistream(b *bufio.Reader, do func(in bool, chunk []byte)) error {
	expect := func(text string) error {
		for i := range len(text) {
			x, err := b.ReadByte()
			if err != nil {
				return fmt.Errorf("%w: %w", errBistream, err)
			}
			if x != text[i] {
				return errBistream
			}
		}
		return nil
	}
	if err := expect("stream = [("); err != nil {
		return err
	}
	for {
		direction, err := b.Peek(4)
		in := bytes.HasPrefix(direction, []byte("'in'"))
		if err != nil || !in && string(direction) != "'out" {
			return errBistream
		}
		text := "'in', b'"
		if !in {
			text = "'out', b'"
		}
		if err := expect(text); err != nil {
			return err
		}
		if err := parseBytes(b, func(chunk []byte) { do(in, chunk) }); err != nil {
			return err
		}
		if err := expect(")"); err != nil {
			return err
		}
		switch x, err := b.ReadByte(); {
		case err != nil || x != ',' && x != ']':
			return errBistream
		case x == ']':
			return nil
		}
		if err := expect("\n("); err != nil {
			return err
		}
	}
}

// parseBytes reads up to the quote that ends a bytes literal.
func parseBytes(b *bufio.Reader, do func(chunk []byte)) error {
	chunk := make([]byte, 0, 4096)
	for {
		x, err := b.ReadByte()
		if err != nil {
			do(chunk)
			return fmt.Errorf("%w: %w", errBistream, err)
		}
		switch x {
		case '\'':
			do(chunk)
			return nil
		case '\\':
			var digits [3]byte
			if _, err := io.ReadFull(b, digits[:]); err != nil || digits[0] != 'x' {
				return errBistream
			}
			v, err := strconv.ParseUint(string(digits[1:]), 16, 8)
			if err != nil {
				return errBistream
			}
			x = byte(v)
		}
		if chunk = append(chunk, x); len(chunk) == cap(chunk) {
			do(chunk)
			chunk = chunk[:0]
		}
	}
}

// readLines gives each line of a log to do; what do cannot use is counted.
func (r *reader) readLines(name string, in io.Reader, do func(name string, n int, line []byte) error) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		if r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if err := do(name, n, lines.Bytes()); err != nil {
			r.countSkipped(fmt.Sprintf("%s: line %d: %v", name, n, err))
		}
	}
	if err := lines.Err(); err != nil {
		r.countSkipped(fmt.Sprintf("%s: %v", name, err))
	}
	return do(name, 0, nil) // the end
}

// maxSessions bounds the sessions of cowrie that are put together at a time, and
// maxTyped what was typed in one.
const (
	maxSessions = 4096
	maxTyped    = 1 << 20
)

// cowrieLine puts what was typed in a session together, a command a line.
func (r *reader) cowrieLine() func(string, int, []byte) error {
	typed := map[string][]byte{}
	end := func(name, session string) {
		if b := typed[session]; len(b) > 0 {
			s := r.openSequence(name+": session "+session+ToServer, nil)
			s.Write(b)
			s.End()
		}
		delete(typed, session)
	}
	return func(name string, _ int, line []byte) error {
		if line == nil {
			for session := range typed {
				end(name, session)
			}
			return nil
		}
		var e struct {
			ID      string `json:"eventid"`
			Session string `json:"session"`
			Input   string `json:"input"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		switch e.ID {
		case "cowrie.command.input":
			if _, ok := typed[e.Session]; !ok && len(typed) == maxSessions {
				for session := range typed { // one of them
					end(name, session)
					break
				}
			}
			if len(typed[e.Session])+len(e.Input) < maxTyped {
				typed[e.Session] = append(append(typed[e.Session], e.Input...), '\n')
			}
		case "cowrie.session.closed":
			end(name, e.Session)
		}
		return nil
	}
}

// gluttonLine reads an event of glutton's producer. Frames say who sent what, where a
// handler tells; otherwise the payload is the client's.
func (r *reader) gluttonLine(name string, n int, line []byte) error {
	if line == nil {
		return nil
	}
	var e struct {
		Transport string          `json:"transport"`
		Port      json.Number     `json:"dstPort"`
		Payload   string          `json:"payload"`
		Decoded   json.RawMessage `json:"decoded"`
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return err
	}
	var frames []struct {
		Direction string `json:"direction"`
		Payload   string `json:"payload"`
	}
	_ = json.Unmarshal(e.Decoded, &frames) // other handlers write an object
	var sides [2][]byte
	for _, f := range frames {
		b, err := base64.StdEncoding.DecodeString(f.Payload)
		if err != nil {
			return fmt.Errorf("payload: %w", err)
		}
		side := 0
		if f.Direction == "write" {
			side = 1
		}
		sides[side] = append(sides[side], b...)
	}
	if len(sides[0]) == 0 {
		b, err := base64.StdEncoding.DecodeString(e.Payload)
		if err != nil {
			return fmt.Errorf("payload: %w", err)
		}
		sides[0] = b
	}
	proto := flow.TCP
	if e.Transport == "udp" {
		proto = flow.UDP
	}
	for side, b := range sides {
		if len(b) == 0 {
			continue
		}
		if side == 0 {
			r.countService(proto, parsePort(e.Port.String()))
		}
		s := r.openSequence(fmt.Sprintf("%s: line %d%s", name, n, [...]string{ToServer, ToClient}[side]), nil)
		s.Write(b)
		s.End()
	}
	return nil
}

// isVault reports whether a folder is one that our own trap keeps captures in.
func isVault(dir string) bool {
	for _, sub := range []string{"payloads", "sessions"} {
		if info, err := os.Stat(filepath.Join(dir, sub)); err != nil || !info.IsDir() {
			return false
		}
	}
	return true
}

// Recorded is one side of a session that a trap kept.
type Recorded struct {
	// Session names the session, and Answer is set for what the client was answered.
	Session string
	Answer  bool
	Service Service
	Payload []byte
}

// Vault reads what a trap kept in a folder, and calls do with each side of each session.
type Vault func(dir string, do func(*Recorded) error) error

// readVault reads the sessions of a trap, each payload once.
func (r *reader) readVault(dir string) error {
	if r.vault == nil {
		return fmt.Errorf("%s holds what a trap recorded, encrypted", dir)
	}
	seen := map[[sha256.Size]byte]bool{}
	return r.vault(dir, func(k *Recorded) error {
		if !k.Answer {
			r.countService(k.Service.Proto, k.Service.Port)
		}
		sum := sha256.Sum256(k.Payload)
		if seen[sum] {
			return r.ctx.Err()
		}
		seen[sum] = true
		suffix := ToServer
		if k.Answer {
			suffix = ToClient
		}
		s := r.openSequence(dir+": session "+k.Session+suffix, nil)
		s.Write(k.Payload)
		s.End()
		return r.ctx.Err()
	})
}

// Service is what clients connected to.
type Service struct {
	Proto flow.Proto
	Port  uint16
}

// countService counts what a client connected to; port is 0 if that is not known.
func (r *reader) countService(proto flow.Proto, port uint16) {
	if port == 0 {
		return
	}
	if r.Services == nil {
		r.Services = map[Service]int{}
	}
	r.Services[Service{proto, port}]++
}

// parsePort is the port that a text names, 0 if it names none.
func parsePort(text string) uint16 {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}
