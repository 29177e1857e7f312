// Package notice informs the owners of networks which of their hosts are
// published: each gets its own rows and nothing about others.
package notice

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"dragnet/flow"
	"dragnet/internal/conf"
	"dragnet/internal/durable"
	"dragnet/publish"
)

// Configuration of the notices.
type Configuration struct {
	// Directory gets a file NAME.csv and a mail NAME.eml for each owner; empty
	// writes none. It is not part of the mirror.
	Directory string `yaml:"directory"`
	// From is the sender of the mails.
	From string `yaml:"from"`
	// ASFile says which prefixes belong to which autonomous system: a prefix, a
	// space or comma, and a number on each line.
	ASFile string `yaml:"as_file"`
	// Owners are who is told.
	Owners []Owner `yaml:"owners"`
}

// Owner is who is told about some networks.
type Owner struct {
	// Name is that of the files.
	Name string `yaml:"name"`
	// Mail is the address of the owner's abuse contact.
	Mail string `yaml:"mail"`
	// Networks are the owner's prefixes.
	Networks []netip.Prefix `yaml:"networks"`
	// AS are the owner's autonomous systems, looked up in ASFile.
	AS []uint32 `yaml:"as"`
}

// DefaultConfiguration sends no notices.
func DefaultConfiguration() Configuration { return Configuration{Owners: []Owner{}} }

var plainName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	if c.Directory == "" {
		return nil
	}
	_, err := mail.ParseAddress(c.From)
	p.Check(err == nil, "from", "%q is not a mail address", c.From)
	seen := map[string]bool{}
	for i, o := range c.Owners {
		key := fmt.Sprintf("owners[%d]", i)
		p.Check(plainName.MatchString(o.Name) && !seen[o.Name], key+".name", "%q: want lower-case letters, digits, dots and hyphens, each name once", o.Name)
		seen[o.Name] = true
		_, err := mail.ParseAddress(o.Mail)
		p.Check(err == nil, key+".mail", "%q is not a mail address", o.Mail)
		p.Check(len(o.Networks)+len(o.AS) > 0, key, "has neither networks nor as")
		p.Check(len(o.AS) == 0 || c.ASFile != "", key+".as", "needs as_file")
		for j, n := range o.Networks {
			p.Check(n.IsValid() && n == n.Masked(), fmt.Sprintf("%s.networks[%d]", key, j), "is not a prefix")
		}
	}
	return p.Join()
}

// maxASLines bounds a file of prefixes and numbers.
const maxASLines = 4 << 20

// readAS reads which prefixes belong to the systems wanted.
func readAS(path string, wanted map[uint32]bool) (map[uint32][]netip.Prefix, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[uint32][]netip.Prefix{}
	scan := bufio.NewScanner(f)
	for line := 1; scan.Scan(); line++ {
		text, _, _ := strings.Cut(scan.Text(), "#")
		fields := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' })
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 2 || line > maxASLines {
			return nil, fmt.Errorf("%s, line %d: want a prefix and the number of an autonomous system", path, line)
		}
		p, err1 := netip.ParsePrefix(fields[0])
		n, err2 := strconv.ParseUint(strings.TrimPrefix(fields[1], "AS"), 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, line, err)
		}
		if wanted[uint32(n)] {
			out[uint32(n)] = append(out[uint32(n)], p.Masked())
		}
	}
	return out, scan.Err()
}

// Writer writes the notices of a configuration.
type Writer struct {
	config     Configuration
	objections string
	networks   [][]netip.Prefix // of each owner
}

// New reads the file of autonomous systems.
func New(c Configuration, objections string) (*Writer, error) {
	w := &Writer{config: c, objections: objections}
	wanted := map[uint32]bool{}
	for _, o := range c.Owners {
		for _, n := range o.AS {
			wanted[n] = true
		}
	}
	var systems map[uint32][]netip.Prefix
	if len(wanted) > 0 {
		var err error
		if systems, err = readAS(c.ASFile, wanted); err != nil {
			return nil, err
		}
	}
	for _, o := range c.Owners {
		networks := o.Networks
		for _, n := range o.AS {
			networks = append(networks, systems[n]...)
		}
		w.networks = append(w.networks, networks)
	}
	return w, os.MkdirAll(c.Directory, 0o700)
}

// Write writes each owner's file, and a mail if it has rows. What an owner has
// no more is removed.
func (w *Writer) Write(v *publish.View) error {
	var all error
	for i := range w.config.Owners {
		all = errors.Join(all, w.writeOwner(&w.config.Owners[i], rowsWithin(v, w.networks[i]), v.Time))
	}
	return all
}

// rowsWithin are the living rows within prefixes, each once, in order.
func rowsWithin(v *publish.View, networks []netip.Prefix) (out []*publish.Row) {
	seen := map[publish.RowKey]bool{}
	for _, p := range networks {
		v.EachFrom(p.Addr(), func(r *publish.Row) bool {
			if !p.Contains(r.Host) {
				return false
			}
			if r.Until > v.Time && !seen[r.Key()] {
				seen[r.Key()] = true
				out = append(out, r)
			}
			return true
		})
	}
	return out
}

func (w *Writer) writeOwner(o *Owner, rows []*publish.Row, now flow.Time) error {
	table, letter := filepath.Join(w.config.Directory, o.Name+".csv"), filepath.Join(w.config.Directory, o.Name+".eml")
	if len(rows) == 0 {
		for _, path := range []string{table, letter} {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	}
	text := formatTable(rows)
	return errors.Join(durable.WriteFile(table, text, 0o600), durable.WriteFile(letter, w.formatMail(o, rows, text, now), 0o600))
}

func formatTable(rows []*publish.Row) []byte {
	var b bytes.Buffer
	c := csv.NewWriter(&b)
	_ = c.Write([]string{"host", "first_seen", "last_seen", "confidence", "until", "reason"}) // a Buffer does not fail
	for _, r := range rows {
		_ = c.Write([]string{r.Host.String(), r.First.String(), r.Last.String(), strconv.Itoa(r.Confidence), r.Until.String(), r.Reason()})
	}
	c.Flush()
	return b.Bytes()
}

// formatMail makes a mail that 'sendmail -t' takes (RFC 5322).
func (w *Writer) formatMail(o *Owner, rows []*publish.Row, table []byte, now flow.Time) []byte {
	hosts := map[netip.Addr]bool{}
	for _, r := range rows {
		hosts[r.Host] = true
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: %s\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\nAuto-Submitted: auto-generated\r\n\r\n",
		w.config.From, o.Mail, mime.QEncoding.Encode("utf-8", fmt.Sprintf("%d of your hosts took part in attacks", len(hosts))), now.Time().Format(time.RFC1123Z))
	q := quotedprintable.NewWriter(&b)
	fmt.Fprintf(q, `Several organisations saw the hosts below take part in coordinated attacks.
They are probably compromised. The list holds hosts of your networks only, and
is published until the time in its column "until" unless they are seen again.

What to do: look at the hosts for programs and accounts that are not yours. If
an entry is wrong, say so: %s

%s`, w.objections, table)
	_ = q.Close()
	return b.Bytes()
}
