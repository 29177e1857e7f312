package netlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// grace is the time a program has between SIGTERM and SIGKILL.
	grace = 3 * time.Second
	// outputLimit bounds what is kept of a program's output, in bytes.
	outputLimit = 1 << 20
)

// Command prepares a program to run in the node, in a new process group, so that
// an interrupt at the terminal reaches the caller only, and ctx ends the whole
// group.
func (n *Node) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.Namespace, program}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = grace // a child that survives may hold the output open
	return cmd
}

// Run runs a program in the node to its end and returns what it printed on
// both outputs. A failure's error repeats the output.
func (n *Node) Run(ctx context.Context, program string, args ...string) (string, error) {
	out, err := n.Command(ctx, program, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %s %s: %w: %s",
			n.Name, program, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// Process is a program that runs in a node until Stop or the Lab's Close.
type Process struct {
	name string
	cmd  *exec.Cmd

	mu      sync.Mutex
	output  []byte
	changed chan struct{} // closed and replaced at each output

	done chan struct{} // closed once the program ended; err is set before
	err  error
}

// Start runs a program in the background.
func (n *Node) Start(program string, args ...string) (*Process, error) {
	p := &Process{
		name:    n.Name + ": " + program,
		cmd:     n.Command(context.Background(), program, args...),
		changed: make(chan struct{}),
		done:    make(chan struct{}),
	}
	p.cmd.Stdout, p.cmd.Stderr = collector{p}, collector{p}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	n.lab.mu.Lock()
	n.lab.processes = append(n.lab.processes, p)
	n.lab.mu.Unlock()
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Pid is the program's own process id: "ip netns exec" replaces itself.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Output returns what the program has printed on both outputs, at most the last
// MiB of it.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.output)
}

// Await waits until the program has printed text, the usual sign that a server
// is ready. It fails when the program ends first.
func (p *Process) Await(ctx context.Context, text string) error {
	for {
		p.mu.Lock()
		found, changed := bytes.Contains(p.output, []byte(text)), p.changed
		p.mu.Unlock()
		if found {
			return nil
		}
		select {
		case <-changed:
		case <-p.done:
			if strings.Contains(p.Output(), text) {
				return nil
			}
			return fmt.Errorf("%s ended before it printed %q (%v): %s", p.name, text, p.err, p.Output())
		case <-ctx.Done():
			return fmt.Errorf("%s has not printed %q: %w: %s", p.name, text, ctx.Err(), p.Output())
		}
	}
}

// Wait waits until the program ends by itself, and returns how.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("%s has not ended: %w", p.name, ctx.Err())
	}
}

// Stop sends the program SIGTERM, and kills its process group if it does not end.
// The program's exit status is not an error.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
	}
	if err := p.cmd.Cancel(); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.done
	return nil
}

// collector appends a program's output to its Process.
type collector struct{ p *Process }

var _ io.Writer = collector{}

func (c collector) Write(b []byte) (int, error) {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.output = append(p.output, b...)
	if over := len(p.output) - outputLimit; over > 0 {
		p.output = append([]byte(nil), p.output[over:]...)
	}
	close(p.changed)
	p.changed = make(chan struct{})
	return len(b), nil
}
