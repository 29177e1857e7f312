package notify

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"strings"
	"time"

	"dragnet/internal/conf"
)

// Mail sends notices by mail, several in one message.
type Mail struct {
	// Server is host:port of a mail server. STARTTLS is used if it is offered; a
	// password is sent only over TLS, or to this machine.
	Server string `yaml:"server"`
	// From is the sender's address.
	From string `yaml:"from"`
	// To are the recipients' addresses.
	To []string `yaml:"to"`
	// User is the login name; empty does not log in.
	User string `yaml:"user"`
	// Password is the user's password.
	Password conf.Secret `yaml:"password"`
	// Every is how long notices are collected before they are sent in one message.
	Every time.Duration `yaml:"every"`
	// Timeout bounds one attempt.
	Timeout time.Duration `yaml:"timeout"`
}

// Validate reports all invalid settings.
func (c *Mail) Validate() error {
	var p conf.Problems
	if c.Server == "" {
		return nil
	}
	_, _, err := net.SplitHostPort(c.Server)
	p.Check(err == nil, "server", "%w; want such as mail.example.org:587", err)
	_, err = mail.ParseAddress(c.From)
	p.Error("from", err)
	p.Check(len(c.To) > 0, "to", "is empty; name at least one recipient")
	for i, a := range c.To {
		_, err := mail.ParseAddress(a)
		p.Error(fmt.Sprintf("to[%d]", i), err)
	}
	p.Check(c.Every >= time.Second && c.Every <= 24*time.Hour, "every", "is %v; want 1s to 24h", c.Every)
	p.Check(c.Timeout > 0, "timeout", "is %v; want a positive duration such as 30s", c.Timeout)
	return p.Join()
}

type mailer struct {
	c    Mail
	host string
}

func newMail(c Mail, host string) *mailer { return &mailer{c, host} }

func (m *mailer) name() string {
	if m.c.Server == "" {
		return ""
	}
	return "mail"
}

func (m *mailer) collectFor() time.Duration { return m.c.Every }

// send passes one message to the server. A refusal with a code of 500 and above
// is final (RFC 5321, section 4.2.1).
func (m *mailer) send(ctx context.Context, notices []Notice) error {
	err := m.deliverMessage(ctx, m.composeMessage(notices))
	var refusal *textproto.Error
	if errors.As(err, &refusal) && refusal.Code >= 500 {
		return permanent{fmt.Errorf("mail: %w", err)}
	} else if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	return nil
}

func (m *mailer) deliverMessage(ctx context.Context, message []byte) error {
	conn, err := (&net.Dialer{Timeout: m.c.Timeout}).DialContext(ctx, "tcp", m.c.Server)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(m.c.Timeout)); err != nil {
		return err
	}
	name, _, err := net.SplitHostPort(m.c.Server)
	if err != nil {
		return permanent{err}
	}
	client, err := smtp.NewClient(conn, name)
	if err != nil {
		return err
	}
	if err := m.startSession(client, name); err != nil {
		return err
	}
	if err := client.Mail(bareAddress(m.c.From)); err != nil {
		return err
	}
	for _, to := range m.c.To {
		if err := client.Rcpt(bareAddress(to)); err != nil {
			return err
		}
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(message); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = client.Quit() // the server has accepted the message
	return nil
}

func (m *mailer) startSession(client *smtp.Client, name string) error {
	if err := client.Hello(m.host); err != nil {
		return err
	}
	if ok, _ := client.Extension("STARTTLS"); ok {
		if err := client.StartTLS(&tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}); err != nil {
			return err
		}
	}
	if m.c.User == "" {
		return nil
	}
	// PlainAuth refuses to send a password over a connection without TLS.
	return client.Auth(smtp.PlainAuth("", m.c.User, m.c.Password.Reveal(), name))
}

// bareAddress returns the address without the display name.
func bareAddress(address string) string {
	a, err := mail.ParseAddress(address)
	if err != nil {
		return address
	}
	return a.Address
}

// composeMessage writes a plain-text message (RFC 5322, RFC 2045).
func (m *mailer) composeMessage(notices []Notice) []byte {
	subject := singleLine(notices[0].Text)
	if n := len(notices); n > 1 {
		subject = fmt.Sprintf("%d notices, first: %s", n, subject)
	}
	if r := []rune(subject); len(r) > 120 {
		subject = string(r[:120]) + " ..."
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\n", m.c.From, strings.Join(m.c.To, ", "),
		mime.QEncoding.Encode("utf-8", "[dragnet] "+subject), time.Now().Format(time.RFC1123Z), rand.Text(), m.host)
	b.WriteString("Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	q := quotedprintable.NewWriter(&b)
	for i := range notices {
		n := &notices[i]
		fmt.Fprintf(q, "%s %s: %s\r\n", n.Time.Time().Format(time.RFC3339), n.Kind, singleLine(n.Text))
		if n.Finding != nil {
			fmt.Fprintf(q, "  dragnet finding show %s\r\n", n.Finding.ID)
		}
		if n.Decision != nil {
			fmt.Fprintf(q, "  dragnet decision show %s\r\n", n.Decision.ID)
		}
	}
	_ = q.Close() // it writes to memory
	return b.Bytes()
}
