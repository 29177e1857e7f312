package run

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// recorder is a part that writes down what is done with it.
type recorder struct {
	name   string
	told   *[]string
	refuse error
	group  *Group
}

func (r *recorder) Start(context.Context) error {
	*r.told = append(*r.told, "start "+r.name)
	return r.refuse
}

func (r *recorder) Stop(ctx context.Context) error {
	*r.told = append(*r.told, "stop "+r.name)
	return r.group.Stop(ctx)
}

func (r *recorder) Failed() <-chan error { return r.group.Failed() }

func TestPartsStopInReverse(t *testing.T) {
	var told []string
	broken := errors.New("broken")
	parts := Parts{&recorder{"a", &told, nil, NewGroup()}, &recorder{"b", &told, nil, NewGroup()}, &recorder{"c", &told, broken, NewGroup()}}
	if err := parts.Start(t.Context()); !errors.Is(err, broken) {
		t.Error(err)
	}
	if want := []string{"start a", "start b", "start c", "stop b", "stop a"}; !slices.Equal(told, want) {
		t.Errorf("got %v, want %v", told, want)
	}
}

// TestPartsStopInOrderWhenAStartIsInterrupted: those that run have time to stop although
// the context of the start has ended.
func TestPartsStopInOrderWhenAStartIsInterrupted(t *testing.T) {
	var told []string
	a := &recorder{"a", &told, nil, NewGroup()}
	stopped := false
	a.group.GoWithoutError(func(ctx context.Context) {
		<-ctx.Done()
		time.Sleep(20 * time.Millisecond)
		stopped = true
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (Parts{a, &recorder{"b", &told, ctx.Err(), NewGroup()}}).Start(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if !stopped {
		t.Error("the part was not waited for")
	}
}

func TestAFailureEndsTheProgram(t *testing.T) {
	var told []string
	a, b := &recorder{"a", &told, nil, NewGroup()}, &recorder{"b", &told, nil, NewGroup()}
	broken := errors.New("broken")
	b.group.Go(func(context.Context) error { return broken })
	if err := UntilDone(t.Context(), Parts{a, b}, time.Minute, slog.New(slog.DiscardHandler)); !errors.Is(err, broken) {
		t.Error(err)
	}
	if want := []string{"start a", "start b", "stop b", "stop a"}; !slices.Equal(told, want) {
		t.Errorf("got %v, want %v", told, want)
	}
}

func TestGroupOutlivesTheContextOfItsStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, lost := NewGroup(), errors.New("not committed")
		var ended atomic.Bool
		g.Go(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		g.Go(func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			ended.Store(true)
			return lost
		})
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := g.Stop(short); !errors.Is(err, context.DeadlineExceeded) || ended.Load() {
			t.Errorf("stop returned %v before its goroutine, ended: %v", err, ended.Load())
		}
		if err := g.Stop(t.Context()); !errors.Is(err, lost) || errors.Is(err, context.Canceled) || !ended.Load() {
			t.Errorf("stop returned %v, ended: %v", err, ended.Load())
		}
		select {
		case err := <-g.Failed():
			t.Errorf("an error after Stop is reported: %v", err)
		default:
		}
	})
}

// withoutSockets is a part after whose start no socket can be opened any more, as
// after a confinement.
type withoutSockets struct{ path string }

func (w withoutSockets) Start(context.Context) error { return os.Remove(w.path) }
func (w withoutSockets) Stop(context.Context) error  { return nil }

// TestSystemdIsNotified: also by a role that has confined itself.
func TestSystemdIsNotified(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := UntilDone(ctx, withoutSockets{path}, time.Minute, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		b := make([]byte, 100)
		n, err := conn.Read(b)
		if err != nil || string(b[:n]) != want {
			t.Errorf("%q, %v, want %q", b[:n], err, want)
		}
	}
}

// reloading is a part that counts its reloads.
type reloading struct {
	recorder
	started atomic.Bool
	reloads chan struct{}
}

// Start fails the test if it is reloaded meanwhile: its parts are not there yet.
func (r *reloading) Start(ctx context.Context) error {
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		return err
	}
	time.Sleep(20 * time.Millisecond)
	r.started.Store(true)
	return r.recorder.Start(ctx)
}

func (r *reloading) Reload(context.Context) error {
	if !r.started.Load() {
		return errors.New("reloaded before it was started")
	}
	r.reloads <- struct{}{}
	return errors.New("a mistake, which ends nothing")
}

// TestReloadComesAfterStart: a SIGHUP while a part starts waits until it has, and
// one that fails ends nothing.
func TestReloadComesAfterStart(t *testing.T) {
	var told []string
	r := &reloading{recorder: recorder{"a", &told, nil, NewGroup()}, reloads: make(chan struct{}, 2)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- UntilDone(ctx, r, time.Minute, slog.New(slog.DiscardHandler)) }()
	<-r.reloads
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	<-r.reloads
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// hungUp is a part that gets a SIGHUP at its start and cannot reload.
type hungUp struct{ recorder }

func (h *hungUp) Start(context.Context) error { return syscall.Kill(os.Getpid(), syscall.SIGHUP) }

// firstLine sends what is written first.
type firstLine chan string

func (f firstLine) Write(b []byte) (int, error) {
	select {
	case f <- string(b):
	default:
	}
	return len(b), nil
}

// TestAHangupDoesNotEndAPartThatCannotReload: it would by default end the
// program, and with it what an agent holds back.
func TestAHangupDoesNotEndAPartThatCannotReload(t *testing.T) {
	var told []string
	ctx, cancel := context.WithCancel(t.Context())
	done, line := make(chan error, 1), make(firstLine, 1)
	go func() {
		part := &hungUp{recorder{"a", &told, nil, NewGroup()}}
		done <- UntilDone(ctx, part, time.Minute, slog.New(slog.NewTextHandler(line, nil)))
	}()
	if got := <-line; !strings.Contains(got, "SIGHUP ignored") {
		t.Errorf("logged %q", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
