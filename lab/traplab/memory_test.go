package traplab

import (
	"net"
	"sync"
	"testing"
	"time"
)

// TestUploadsAtOnce: a honeypot that uploads 1 MiB in each of many sessions, and
// leaves them open, does not use up the memory, and its next session is recorded.
func TestUploadsAtOnce(t *testing.T) {
	l := newLab(t)
	l.startTrap("array: {idle: 1m}", "recording: {record: false}")
	const sessions, most = 500, 400 // MB; each alone may hold 1
	body := make([]byte, 1<<20)
	for i := range body {
		body[i] = byte(i * 7)
	}
	var conns []net.Conn
	err := l.honeypot.Do(func() error {
		for range sessions {
			c, err := net.DialTimeout("tcp4", "198.51.100.7:4444", 3*time.Second)
			if err != nil {
				return err
			}
			conns = append(conns, c)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, c := range conns {
		defer c.Close()
		all.Go(func() {
			if err := c.SetWriteDeadline(time.Now().Add(time.Minute)); err == nil {
				_, _ = c.Write(body) // the array may end it
			}
		})
	}
	all.Wait()
	time.Sleep(time.Second)
	mb := l.residentMB()
	t.Logf("%d MB while %d sessions hold 1 MiB each", mb, sessions)
	if mb > most {
		t.Errorf("the agent holds %d MB, want at most %d", mb, most)
	}
	l.answers("after the uploads")
}
