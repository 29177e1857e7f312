package emulate

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxCommands bounds the commands of one connection.
const maxCommands = 10_000

// converse answers each line with what reply returns; an empty answer says
// nothing, and done ends the session after it.
func converse(c *Conn, banner string, reply func(line string) (answer string, done bool)) error {
	if _, err := io.WriteString(c, banner); err != nil {
		return err
	}
	for range maxCommands {
		line, err := readLine(c)
		if err != nil {
			return err
		}
		answer, done := reply(line)
		if answer != "" {
			if _, err := io.WriteString(c, answer); err != nil {
				return err
			}
		}
		if done {
			return nil
		}
	}
	return errLimit
}

func command(line string) (verb, argument string) {
	verb, argument, _ = strings.Cut(line, " ")
	return strings.ToUpper(verb), argument
}

// serveFTP lets anybody log in and upload (RFC 959, 2428). Data connections go to
// a port of the same address, which the translator brings to the generic service;
// nothing is ever connected back to the client (PORT and EPRT are refused).
func serveFTP(c *Conn) error {
	port := 40000 + int(c.recorder.Received())%1000
	return converse(c, "220 FTP server ready.\r\n", func(line string) (string, bool) {
		switch verb, _ := command(line); verb {
		case "USER":
			return "331 Please specify the password.\r\n", false
		case "PASS":
			return "230 Login successful.\r\n", false
		case "SYST":
			return "215 UNIX Type: L8\r\n", false
		case "PWD":
			return "257 \"/\" is the current directory\r\n", false
		case "TYPE", "MODE", "STRU", "CWD", "NOOP", "SITE", "OPTS", "ALLO", "REST", "DELE", "MKD":
			return "200 OK.\r\n", false
		case "FEAT":
			return "211-Features:\r\n EPSV\r\n PASV\r\n SIZE\r\n211 End\r\n", false
		case "EPSV":
			return fmt.Sprintf("229 Entering Extended Passive Mode (|||%d|)\r\n", port), false
		case "PASV":
			a := c.LocalAddr().String()
			host := a[:max(0, strings.LastIndexByte(a, ':'))]
			if strings.ContainsAny(host, "[]:") {
				return "522 Use EPSV.\r\n", false
			}
			return fmt.Sprintf("227 Entering Passive Mode (%s,%d,%d).\r\n", strings.ReplaceAll(host, ".", ","), port>>8, port&255), false
		case "PORT", "EPRT":
			return "500 Use passive mode.\r\n", false
		case "STOR", "APPE", "STOU":
			return "150 Ok to send data.\r\n226 Transfer complete.\r\n", false
		case "LIST", "NLST", "RETR":
			return "150 Here it comes.\r\n226 Transfer complete.\r\n", false
		case "SIZE", "MDTM":
			return "550 No such file.\r\n", false
		case "QUIT":
			return "221 Goodbye.\r\n", true
		}
		return "502 Command not implemented.\r\n", false
	})
}

// serveSMTP accepts every message and delivers none (RFC 5321).
func serveSMTP(c *Conn) error {
	data := false
	return converse(c, "220 mail ESMTP\r\n", func(line string) (string, bool) {
		if data {
			if data = line != "."; data {
				return "", false
			}
			return "250 2.0.0 Ok: queued\r\n", false
		}
		switch verb, _ := command(line); verb {
		case "HELO":
			return "250 mail\r\n", false
		case "EHLO":
			return "250-mail\r\n250-SIZE 10240000\r\n250 8BITMIME\r\n", false
		case "DATA":
			data = true
			return "354 End data with <CR><LF>.<CR><LF>\r\n", false
		case "QUIT":
			return "221 2.0.0 Bye\r\n", true
		case "MAIL", "RCPT", "RSET", "NOOP", "VRFY":
			return "250 2.0.0 Ok\r\n", false
		}
		return "502 5.5.2 Error: command not recognized\r\n", false
	})
}

// serveTelnet refuses every option (RFC 854), takes any login, and answers
// commands as a shell that knows none of them. Mirai and similar worms look for what
// echo prints and for a busybox applet that does not exist.
func serveTelnet(c *Conn) error {
	if _, err := io.WriteString(c, "\xff\xfd\x18\xff\xfd\x20\r\nlogin: "); err != nil {
		return err
	}
	state := 0
	return converse(c, "", func(line string) (string, bool) {
		line = strings.TrimRight(string(withoutOptions([]byte(line))), "\x00")
		switch state {
		case 0:
			state = 1
			return "Password: ", false
		case 1:
			state = 2
			return "\r\nBusyBox v1.19.3 built-in shell (ash)\r\n\r\n# ", false
		}
		answer, done := answerShell(line)
		if done {
			return answer, true
		}
		return answer + "# ", false
	})
}

// answerShell answers a line as a shell that knows no command would; done is after
// exit. Nothing is executed.
func answerShell(line string) (answer string, done bool) {
	var out strings.Builder
	for _, part := range strings.FieldsFunc(line, func(r rune) bool { return r == ';' || r == '&' || r == '|' }) {
		words := strings.Fields(part)
		switch {
		case len(words) == 0:
		case words[0] == "exit" || words[0] == "quit":
			return out.String(), true
		case words[0] == "echo":
			out.WriteString(unescape(strings.Join(withoutFlags(words[1:]), " ")) + "\r\n")
		case strings.HasSuffix(words[0], "busybox") && len(words) > 1:
			out.WriteString(words[1] + ": applet not found\r\n")
		case words[0] == "sh" || words[0] == "shell" || words[0] == "system" || words[0] == "enable" || words[0] == "cd":
		default:
			out.WriteString("sh: " + words[0] + ": not found\r\n")
		}
	}
	return out.String(), false
}

func withoutFlags(words []string) []string {
	for len(words) > 0 && strings.HasPrefix(words[0], "-") {
		words = words[1:]
	}
	return words
}

// unescape interprets \xHH as echo -e does; anything else stays. What it returns
// is no longer than what it is given.
func unescape(s string) string {
	s = strings.Trim(s, `"'`)
	var out strings.Builder
	for len(s) > 0 {
		if len(s) >= 4 && s[0] == '\\' && s[1] == 'x' {
			if v, err := strconv.ParseUint(s[2:4], 16, 8); err == nil {
				out.WriteByte(byte(v))
				s = s[4:]
				continue
			}
		}
		out.WriteByte(s[0])
		s = s[1:]
	}
	return out.String()
}

// withoutOptions removes telnet commands (IAC and what follows).
func withoutOptions(b []byte) []byte {
	var out []byte
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] != 0xff:
			out = append(out, b[i])
		case i+1 < len(b) && b[i+1] == 0xfa: // subnegotiation, up to IAC SE
			end := bytes.Index(b[i:], []byte{0xff, 0xf0})
			if end < 0 {
				return out
			}
			i += end + 1
		case i+1 < len(b) && b[i+1] >= 0xfb:
			i += 2
		default:
			i++
		}
	}
	return out
}

func isRedis(first []byte) bool {
	return bytes.HasPrefix(first, []byte("*")) && len(first) > 2 && first[1] >= '0' && first[1] <= '9'
}

// serveRedis answers +OK to each line of commands; worms set keys and configure a
// file to write them to.
func serveRedis(c *Conn) error {
	return converse(c, "", func(line string) (string, bool) {
		switch verb, _ := command(line); {
		case strings.HasPrefix(verb, "*"):
			return "+OK\r\n", false
		case verb == "QUIT":
			return "+OK\r\n", true
		case verb == "PING":
			return "+PONG\r\n", false
		}
		return "", false
	})
}
