package query

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/internal/admin"
	"dragnet/node/ingest"
	"dragnet/store/disk"
)

// Free space below which the status asks for attention, and below which nothing
// can be relied on to be stored, in bytes.
const (
	lowSpace = 2 << 30
	noSpace  = 100 << 20
)

// StoreStatus says how much is stored, and whether there is room for more.
func (s *StoreServer) StoreStatus(ctx context.Context) admin.Status {
	out := admin.Status{Part: "store", Level: admin.OK}
	fail := func(err error) admin.Status {
		out.Level, out.Text, out.Hint = admin.Failed, fmt.Sprintf("cannot be read: %v", err), "dragnet store check"
		return out
	}
	store, err := ingest.OpenReader(ctx, s.place)
	if err != nil {
		return fail(err)
	}
	defer store.Close() // nothing was written
	c, err := store.Coverage(ctx)
	if err != nil {
		return fail(err)
	}
	out.Text = "no flows yet"
	if c.Flows > 0 {
		out.Text = fmt.Sprintf("%d flows from %s to %s", c.Flows, c.From.Time().Format(time.RFC3339), c.To.Time().Format(time.RFC3339))
	} else {
		out.Level, out.Hint = admin.Attention, "name logs in follow.logs, exporters in collect, or import some: dragnet flow import"
	}
	if !disk.Is(s.place) {
		return out
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.place, &fs); err != nil {
		return fail(err)
	}
	free := fs.Bavail * uint64(fs.Bsize)
	out.Text += fmt.Sprintf("; %.1f GB of disk free", float64(free)/1e9)
	switch {
	case free < noSpace:
		out.Level, out.Hint = admin.Failed, "make room: store.keep_days keeps fewer days"
	case free < lowSpace:
		out.Level, out.Hint = admin.Attention, "make room: store.keep_days keeps fewer days"
	}
	return out
}

// maxNamed bounds the sources that a status names; those are named of which more
// was lost than this part of their flows.
const (
	maxNamed     = 5
	worthLooking = 100
)

// SourcesStatus says how many sources there are, and of which something was lost.
func (s *StoreServer) SourcesStatus(ctx context.Context) admin.Status {
	out := admin.Status{Part: "sources", Level: admin.OK}
	all, err := Sources(ctx, s.place, s.report)
	if err != nil {
		out.Level, out.Text = admin.Failed, fmt.Sprintf("cannot be listed: %v", err)
		return out
	}
	var lossy []string
	var last time.Time
	some := 0
	for i := range all {
		one := &all[i]
		if one.At.After(last) {
			last = one.At
		}
		var lost uint64
		for _, n := range one.Lost {
			lost += n
		}
		if lost > 0 {
			some++
		}
		if lost > one.Flows/worthLooking {
			lossy = append(lossy, one.Kind+" "+one.Name)
		}
	}
	out.Text = fmt.Sprintf("%d", len(all))
	if !last.IsZero() {
		out.Text += ", the last taken in at " + last.UTC().Format(time.RFC3339)
	}
	if some > 0 {
		out.Text += fmt.Sprintf("; something was lost or skipped of %d", some)
	}
	if n := len(lossy); n > 0 {
		out.Level, out.Hint = admin.Attention, "dragnet source list says what was lost, by cause"
		out.Text += ", and much of " + strings.Join(lossy[:min(n, maxNamed)], ", ")
		if n > maxNamed {
			out.Text += ", ..."
		}
	}
	return out
}
