package emulate

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"dragnet/trap/session"
)

func isSSH(first []byte) bool { return bytes.HasPrefix(first, []byte("SSH-")) }

// hostKey is one for all connections.
var hostKey = sync.OnceValues(func() (ssh.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(key)
})

// maxChannels bounds the channels of one connection, one after the other.
const maxChannels = 16

// serveSSH takes any password (RFC 4252) and answers commands as a shell that knows
// none (RFC 4254, section 6); connections to others are refused, to and from the
// client. What the client typed is recorded as a separate session, in clear text.
func serveSSH(c *Conn) error {
	key, err := hostKey()
	if err != nil {
		return err
	}
	r := session.NewRecorder(session.Session{}, 0, time.Now)
	if c.nested != nil {
		r = c.nested("ssh")
	}
	r.SetService("ssh/shell")
	config := &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-OpenSSH_9.2p1",
		PasswordCallback: func(m ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			r.SetLogin(m.User(), string(password))
			return nil, nil
		},
	}
	config.AddHostKey(key)
	conn, channels, requests, err := ssh.NewServerConn(buffered{c}, config)
	if err != nil {
		return err
	}
	defer conn.Close()
	go ssh.DiscardRequests(requests)
	n := 0
	for fresh := range channels {
		if n++; n > maxChannels {
			return errLimit
		}
		if fresh.ChannelType() != "session" {
			_ = fresh.Reject(ssh.Prohibited, "administratively prohibited") // the client may be gone
			continue
		}
		channel, asked, err := fresh.Accept()
		if err != nil {
			return err
		}
		if err := serveChannel(channel, asked, r); err != nil {
			return err
		}
	}
	return nil
}

// serveChannel serves one session channel; others wait until it ends.
func serveChannel(channel ssh.Channel, asked <-chan *ssh.Request, r *session.Recorder) error {
	defer channel.Close()
	for q := range asked {
		switch q.Type {
		case "pty-req", "env", "window-change":
			if err := q.Reply(true, nil); err != nil {
				return err
			}
		case "shell", "exec":
			if err := q.Reply(true, nil); err != nil {
				return err
			}
			go ssh.DiscardRequests(asked)
			out := recordedWriter{channel, r}
			if q.Type == "shell" {
				return serveShell(channel, out, r)
			}
			var x struct{ Command string }
			if err := ssh.Unmarshal(q.Payload, &x); err != nil {
				return err
			}
			return serveCommand(x.Command, channel, out, r)
		default: // subsystems, agents, X11
			if err := q.Reply(false, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// recordedWriter answers a client.
type recordedWriter struct {
	io.Writer
	recorder *session.Recorder
}

// Write implements io.Writer.
func (w recordedWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	w.recorder.Add(true, b[:n])
	return n, err
}

// serveShell answers lines.
func serveShell(channel ssh.Channel, out io.Writer, r *session.Recorder) error {
	if _, err := io.WriteString(out, "# "); err != nil {
		return err
	}
	var line []byte
	buffer := make([]byte, 1024)
	for total := 0; total < maxDrain; {
		n, err := channel.Read(buffer)
		r.Add(false, buffer[:n])
		total += n
		for _, b := range buffer[:n] {
			if b != '\r' && b != '\n' {
				if line = append(line, b); len(line) < 2048 {
					continue
				}
			}
			answer, done := answerShell(string(line))
			line = line[:0]
			if done {
				return endCommand(channel, 0)
			}
			if _, err := io.WriteString(out, answer+"# "); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
	return errLimit
}

// serveCommand answers one command and takes what is sent to it; scp is told that
// each piece arrived.
func serveCommand(command string, channel ssh.Channel, out io.Writer, r *session.Recorder) error {
	r.Add(false, []byte(command+"\n"))
	answer, _ := answerShell(command)
	words := strings.Fields(command)
	isUpload := len(words) > 1 && words[0] == "scp" && strings.Contains(command, "-t")
	if isUpload {
		answer = "\x00"
	}
	if _, err := io.WriteString(out, answer); err != nil {
		return err
	}
	if !isUpload {
		return endCommand(channel, 127) // not found
	}
	buffer := make([]byte, 32<<10)
	for total := 0; total < maxDrain; {
		n, err := channel.Read(buffer)
		r.Add(false, buffer[:n])
		if total += n; err == io.EOF {
			return endCommand(channel, 0)
		}
		if err != nil {
			return err
		}
		if _, err := out.Write([]byte{0}); err != nil {
			return err
		}
	}
	return errLimit
}

func endCommand(channel ssh.Channel, status uint32) error {
	_, err := channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
	return err
}
