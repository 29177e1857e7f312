package main

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/coreos/go-systemd/v22/daemon"
)

// TestNotify: systemd gets the notice, and outside systemd there is none to send.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, err := conn.Read(b)
	if err != nil || string(b[:n]) != "READY=1" {
		t.Errorf("%q, %v", b[:n], err)
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		t.Error(err)
	}
}
