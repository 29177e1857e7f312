package enforcement

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"dragnet/daw"
)

// maxBulletin bounds what an agent may send at a time.
const maxBulletin = 16 << 20

// openSocket listens on a Unix socket that owner and group may use. One left by
// a node that was killed is replaced; one that is in use is not.
func openSocket(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("station.socket: %w", err)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("station.socket: %s exists and is no socket", path)
		}
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return nil, fmt.Errorf("station.socket: %s is in use by another node", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("station.socket: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("station.socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("station.socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(fmt.Errorf("station.socket: %w", err), l.Close())
	}
	return l, nil
}

// handler answers bulletins. Who can open the socket is trusted to be the agent
// it names: file permissions are the key.
func (r *Response) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/exchange", func(w http.ResponseWriter, req *http.Request) {
		var b daw.AgentReport
		if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxBulletin)).Decode(&b); err != nil {
			r.metrics.nonsense.Inc()
			http.Error(w, "bulletin: "+err.Error(), http.StatusBadRequest)
			return
		}
		orders, err := r.Exchange(req.Context(), b)
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(orders); err != nil {
			r.log.Warn("orders were not sent", "agent", b.Agent, "err", err)
		}
	})
	return mux
}
