//go:build linux

package sensor

import (
	"fmt"
	"runtime"
	"time"

	"dragnet/internal/doctor"
	"dragnet/packet/live"
	"dragnet/wire/channel"
)

// Examine checks what a sensor with this configuration needs on this machine, in
// the calling thread's network namespace, without changing anything.
func Examine(c Configuration, now time.Time) []doctor.Check {
	all := live.Examine(c.Live)
	workers := doctor.Check{Name: "workers", Good: fmt.Sprintf("%d on %d processor cores", c.Workers, runtime.NumCPU())}
	if c.Workers > runtime.NumCPU() {
		workers.Err = fmt.Errorf("%d on %d processor cores: they get into each other's way", c.Workers, runtime.NumCPU())
	} else if c.Workers > 1 {
		workers.Err = tryGroup(c)
		workers.Fatal = true
	}
	return append(append(all, workers), channel.Examine(c.Channel, "sensor", now)...)
}

// tryGroup opens the readers of all workers.
func tryGroup(c Configuration) error {
	readers, err := live.OpenGroup(c.Live, c.Workers)
	for _, r := range readers {
		r.Close()
	}
	return err
}
