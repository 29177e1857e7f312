package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"dragnet/internal/conf"
)

// Syslog sends notices in the format of RFC 5424.
type Syslog struct {
	// Address is udp://host:514, tcp://host:601, tls://host:6514 or
	// unix:///dev/log.
	Address string `yaml:"address"`
	// Facility is RFC 5424's number; 13 is "log audit".
	Facility int `yaml:"facility"`
	// Authority is a PEM file of who signed a tls receiver's certificate; empty
	// trusts those that the system does.
	Authority string `yaml:"authority"`
}

// Validate reports all invalid settings.
func (c *Syslog) Validate() error {
	var p conf.Problems
	if c.Address == "" {
		return nil
	}
	p.Check(c.Facility >= 0 && c.Facility <= 23, "facility", "is %d; want 0 to 23", c.Facility)
	u, err := url.Parse(c.Address)
	if err != nil {
		p.Error("address", err)
		return p.Join()
	}
	local := u.Scheme == "unix" && u.Path != ""
	remote := (u.Scheme == "udp" || u.Scheme == "tcp" || u.Scheme == "tls") && u.Port() != ""
	p.Check(local || remote, "address", "%q; want one of udp://host:514, tcp://host:601, tls://host:6514, unix:///dev/log", c.Address)
	return p.Join()
}

type syslog struct {
	c    Syslog
	host string
	// format writes a notice as a message.
	format func(*Notice) []byte
	conn   net.Conn
	// counted is whether each message is preceded by its length (RFC 6587).
	counted bool
}

func newSyslog(c Syslog, host string) *syslog {
	s := &syslog{c: c, host: host}
	s.format = s.formatNotice
	return s
}

func (s *syslog) name() string {
	if s.c.Address == "" {
		return ""
	}
	return "syslog"
}

func (s *syslog) collectFor() time.Duration { return 0 }

// sendTimeout bounds one message.
const sendTimeout = 10 * time.Second

// send writes each notice; a lost connection is opened again at the next call.
func (s *syslog) send(ctx context.Context, notices []Notice) error {
	if s.conn == nil {
		if err := s.dialReceiver(ctx); err != nil {
			return fmt.Errorf("syslog: %w", err)
		}
	}
	for i := range notices {
		b := s.format(&notices[i])
		if s.counted {
			b = append(fmt.Appendf(nil, "%d ", len(b)), b...)
		}
		err := s.conn.SetWriteDeadline(time.Now().Add(sendTimeout))
		if err == nil {
			_, err = s.conn.Write(b)
		}
		if err != nil {
			s.conn.Close()
			s.conn = nil
			return fmt.Errorf("syslog: %w", err)
		}
	}
	return nil
}

func (s *syslog) dialReceiver(ctx context.Context) (err error) {
	u, err := url.Parse(s.c.Address)
	if err != nil {
		return permanent{err}
	}
	d := net.Dialer{Timeout: sendTimeout}
	switch u.Scheme {
	case "unix":
		if s.conn, err = d.DialContext(ctx, "unixgram", u.Path); err != nil {
			s.conn, err = d.DialContext(ctx, "unix", u.Path)
		}
	case "tls":
		config := &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
		if s.c.Authority != "" {
			if config.RootCAs, err = readAuthority(s.c.Authority); err != nil {
				return err // the file may be put right
			}
		}
		t := tls.Dialer{NetDialer: &d, Config: config}
		s.conn, err = t.DialContext(ctx, "tcp", u.Host)
	default:
		s.conn, err = d.DialContext(ctx, u.Scheme, u.Host)
	}
	s.counted = u.Scheme == "tcp" || u.Scheme == "tls"
	return err
}

func readAuthority(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return pool, nil
}

// severities of the kinds (RFC 5424, table 2): 4 is a warning, 5 a notice.
func severityOf(kind string) int {
	switch kind {
	case "alarm", "trend", "finding":
		return 4
	}
	return 5
}

// formatNotice writes a notice with its facts as structured data; 32473 is the
// enterprise number for documentation (RFC 5612), as the project has none.
func (s *syslog) formatNotice(n *Notice) []byte {
	data := []string{"kind", n.Kind}
	if f := n.Finding; f != nil {
		data = append(data, "finding", f.ID, "host", f.Addr.String(), "detector", f.Detector)
	}
	if d := n.Decision; d != nil {
		data = append(data, "decision", d.ID, "target", d.Target.String(), "verdict", string(d.Verdict))
	}
	var b strings.Builder
	b.WriteString(s.header(n) + " [dragnet@32473")
	for i := 0; i < len(data); i += 2 {
		fmt.Fprintf(&b, " %s=\"%s\"", data[i], escapeValue(data[i+1]))
	}
	// The byte order mark says that the text is UTF-8.
	b.WriteString("] \ufeff" + singleLine(n.Text))
	return []byte(b.String())
}

// header writes what comes before the structured data.
func (s *syslog) header(n *Notice) string {
	return fmt.Sprintf("<%d>1 %s %s dragnet %d %s", s.c.Facility*8+severityOf(n.Kind), n.Time.Time().Format("2006-01-02T15:04:05.000000Z07:00"), s.host, os.Getpid(), n.Kind)
}

// escapeValue escapes a value of structured data (RFC 5424, section 6.3.3).
func escapeValue(v string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`).Replace(singleLine(v))
}

// singleLine replaces line breaks, so that quoted text cannot forge another line.
func singleLine(v string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(v, "?"))
}
