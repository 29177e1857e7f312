package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"dragnet/internal/netlab"
	"dragnet/lab/incident"
)

const (
	// actTime bounds an ordinary act.
	actTime = 20 * time.Second
	// contactTime bounds a contact. It is shorter than fetchAfter, so that a
	// slow machine cannot turn the order of contact and fetch round unnoticed.
	contactTime = 7 * time.Second
)

// performActs does every act at its time and fails if any of them fails, since
// such a recording would be useless.
func performActs(ctx context.Context, acts []act, net *network, f *files) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	start := time.Now()
	var running sync.WaitGroup
	for i, a := range acts {
		if err := sleepUntil(ctx, start.Add(a.at)); err != nil {
			break
		}
		if a.does == contact || a.does == refused || a.does == fetch {
			slog.Info(string(a.does), "at", a.at.Round(100*time.Millisecond), "who", a.who, "to", a.to)
		}
		running.Go(func() {
			if err := net.performAct(ctx, a, filepath.Join(f.dir, "act"+strconv.Itoa(i)), f); err != nil {
				cancel(fmt.Errorf("%s of %s by %s: %w", a.does, a.to, a.who, err))
			}
		})
	}
	running.Wait()
	sleepUntil(ctx, start.Add(span)) // cut short only by a failure, which Cause returns
	return context.Cause(ctx)
}

func sleepUntil(ctx context.Context, t time.Time) error {
	select {
	case <-time.After(time.Until(t)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// performAct performs one act by a real program. scratch is a temporary file
// for this act.
func (n *network) performAct(ctx context.Context, a act, scratch string, f *files) error {
	limit := actTime
	if a.does == contact || a.does == refused {
		limit = contactTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	who := n.hosts[a.who]
	switch a.does {
	case visit:
		_, err := who.Run(ctx, "curl", "-sSf4", "-o", scratch, "http://"+a.to)
		return err
	case login:
		_, err := who.Run(ctx, "ssh", "-F", "none", "-i", f.sshKey, "-o", "BatchMode=yes",
			"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "root@"+a.to, "show")
		return err
	case ping:
		_, err := who.Run(ctx, "ping", "-4", "-c2", "-i0.3", a.to)
		return err
	case fetch:
		if _, err := who.Run(ctx, "curl", "-sSf4", "-o", scratch, "tftp://"+a.to+"/"+sampleName); err != nil {
			return err
		}
		got, err := os.ReadFile(scratch)
		if err == nil && !bytes.Equal(got, f.sample) {
			err = errors.New("the file was changed in transit")
		}
		return err
	case contact:
		return exchangeLine(ctx, who, a.to)
	case refused:
		if err := exchangeLine(ctx, who, a.to); err == nil || !strings.Contains(err.Error(), "refused") {
			return fmt.Errorf("connection not refused: %v", err)
		}
		return nil
	}
	return fmt.Errorf("unknown act %q", a.does)
}

// exchangeLine connects to the service on tcp/1433 and sends it a line, which
// it echoes.
func exchangeLine(ctx context.Context, who *netlab.Node, to string) error {
	const line = "inert bytes of the staged incident\n"
	addr, err := netip.ParseAddr(to)
	if err != nil {
		return err
	}
	cmd := who.Command(ctx, "socat", "-t2", "-", "TCP4:"+netip.AddrPortFrom(addr, incident.ContactPort).String())
	cmd.Stdin = io.NopCloser(strings.NewReader(line))
	out, err := cmd.CombinedOutput()
	if err == nil && string(out) != line {
		err = errors.New("the line was not echoed")
	}
	if err != nil {
		return fmt.Errorf("socat: %w: %s", err, out)
	}
	return nil
}
