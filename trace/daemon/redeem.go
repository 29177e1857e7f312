//go:build linux

package daemon

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"dragnet/trace/call"
	"dragnet/trace/token"
)

// serveRedeem answers calls of the listed investigators.
func (d *Daemon) serveRedeem() error {
	var keys []ed25519.PublicKey
	for _, text := range d.config.Redeem.Investigators {
		k, err := token.ParseKey(text)
		if err != nil {
			return err
		}
		keys = append(keys, k)
	}
	config, err := call.ServerTLS(d.key, keys)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", d.config.Redeem.Listen)
	if err != nil {
		return fmt.Errorf("listen for calls: %w", err)
	}
	l = newBoundedListener(l)
	d.listeners = append(d.listeners, l)
	srv := &http.Server{
		Handler:     call.Handler(RecordsDir(d.config.State), d.key, d.finder.Host().Name, d.log),
		ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelInfo),
	}
	d.group.GoWithoutError(func(context.Context) { srv.Serve(tls.NewListener(l, config)) }) // ends when Stop closes l
	return nil
}
