package netlab

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// visitEnv makes this test binary, run again, a process whose first thread visits the
// namespace of that file.
const visitEnv = "NETLAB_VISIT"

func init() {
	file := os.Getenv(visitEnv)
	if file == "" {
		return
	}
	runtime.LockOSThread() // the first thread, as which initialisation runs
	ns, err := os.Open(file)
	if err == nil {
		err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
	}
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString("there\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// TestCloseSparesVisitors: a program may look into all namespaces of the machine, a
// lab's too, and is not one of the lab's.
func TestCloseSparesVisitors(t *testing.T) {
	lab, client, _, _ := routed(t)
	visitor := exec.Command(os.Args[0])
	visitor.Env = append(os.Environ(), visitEnv+"="+filepath.Join(namesDir, client.Namespace))
	in, err := visitor.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := visitor.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := visitor.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if err := visitor.Wait(); err != nil {
		t.Errorf("the visitor was killed: %v", err)
	}
}
