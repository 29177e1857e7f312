package run

import (
	"log/slog"
	"net"
	"os"
)

// systemd reports the state of a service to systemd (sd_notify(3)). It connects
// once, at the start: a role may give up the right to open sockets before it is
// ready.
type systemd struct {
	log  *slog.Logger
	conn *net.UnixConn // nil outside systemd
}

func connectSystemd(log *slog.Logger) *systemd {
	s := &systemd{log: log}
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return s
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		log.Warn("systemd cannot be notified", "err", err)
		return s
	}
	s.conn = conn
	return s
}

// notify sends a state.
func (s *systemd) notify(state string) {
	if s.conn == nil {
		return
	}
	if _, err := s.conn.Write([]byte(state)); err != nil {
		s.log.Warn("systemd could not be notified", "state", state, "err", err)
	}
}

func (s *systemd) close() {
	if s.conn != nil {
		s.conn.Close()
	}
}
