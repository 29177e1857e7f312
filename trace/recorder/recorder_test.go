//go:build linux

package recorder

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"dragnet/internal/testkit"
	"dragnet/trace/kernel"
	"dragnet/trace/walk"
)

// newWriter is a recorder without kernel programs, fed by the test.
func newWriter(t testing.TB, dir string, config Configuration) *Recorder {
	t.Helper()
	testkit.Root(t)
	c := walk.DefaultConfiguration()
	c.EBPF = "off"
	f, err := walk.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	r := &Recorder{boot: time.Unix(0, 0), config: config, finder: f, dir: dir, table: newTable(), shares: newShares(config, func(uid uint32) uint32 { return uid })}
	if r.log, err = openLog(dir, config); err != nil {
		t.Fatal(err)
	}
	return r
}

// connect has a new process of a user open and close a connection.
func (r *Recorder) connect(pid int32, uid uint32, local, remote netip.AddrPort, at time.Time) {
	ns := uint64(at.UnixNano())
	id := kernel.ProcessID{PID: pid, Start: ns}
	for _, e := range []kernel.Event{
		{Kind: kernel.Forked, Time: ns, ID: id, UID: uid, Name: "flood"},
		{Kind: kernel.Opened, Time: ns, Opener: id, ID: id, Started: ns, Direction: kernel.Outbound, NetNS: r.finder.OwnNetNS(), Local: local, Remote: remote, UID: uid},
		{Kind: kernel.Closed, Time: ns + 1e6, Opener: id, ID: id, Started: ns, Direction: kernel.Outbound, NetNS: r.finder.OwnNetNS(), Local: local, Remote: remote, UID: uid},
		{Kind: kernel.Exited, Time: ns + 2e6, ID: id, UID: uid},
	} {
		r.table.add(e)
	}
	r.writeEnded(r.table.takeEnded(), at)
}

// TestFloodLosesNothingYounger has a user flood, attack, and flood for a day: the
// record of the attack, and what others did, must be there until it is older than
// promised, in the room that is allowed.
func TestFloodLosesNothingYounger(t *testing.T) {
	dir := t.TempDir()
	config := Configuration{MaxBytes: 8 << 20, MaxAge: 24 * time.Hour}
	r := newWriter(t, dir, config)
	address := func(host string, port int) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(host), uint16(port))
	}
	begin := time.Unix(1_800_000_000, 0)
	perSlice := 1500
	if testkit.Short(t) {
		perSlice = 400
	}
	pid, port := int32(100), 0
	flood := func(at time.Time) {
		for range perSlice {
			pid, port = pid+1, (port+1)%60000
			r.connect(pid, 1000, address("192.0.2.1", 1024+port%60000), address("192.0.2.9", 80), at)
		}
	}
	flood(begin)
	attack, bystander := address("192.0.2.1", 500), address("192.0.2.1", 501)
	r.connect(1, 1000, attack, address("198.51.100.7", 22), begin.Add(time.Minute))
	r.connect(2, 1001, bystander, address("192.0.2.9", 80), begin.Add(time.Minute))
	for at := begin.Add(2 * time.Minute); at.Sub(begin) < config.MaxAge-slice; at = at.Add(slice) {
		flood(at)
	}
	if err := r.log.close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name          string
		local, remote netip.AddrPort
		uid           uint32
	}{{"the attack", attack, address("198.51.100.7", 22), 1000}, {"another user", bystander, address("192.0.2.9", 80), 1001}} {
		p, err := r.Find(context.Background(), c.local, c.remote, begin.Add(time.Minute))
		if err != nil || p.UID != c.uid || len(p.Processes) != 1 || p.Summarized {
			t.Errorf("%s, a day later: %+v, %v", c.name, p, err)
		}
	}
	// Of the last connection of the first flood, at least who it was is known.
	p, err := r.Find(context.Background(), address("192.0.2.1", 1024+perSlice-1), address("192.0.2.9", 80), begin)
	if err != nil || p.UID != 1000 {
		t.Errorf("a connection of the flood: %+v, %v", p, err)
	}
	if _, err := r.Find(context.Background(), attack, address("198.51.100.7", 22), begin.Add(time.Hour)); !errors.Is(err, ErrUnknown) {
		t.Errorf("at another time: %v", err)
	}
	list, err := listSegments(dir)
	var total int64
	for _, s := range list {
		total += s.size
	}
	if err != nil || total > config.MaxBytes || len(list) < 100 {
		t.Errorf("%d segments of %d octets together, %v", len(list), total, err)
	}
}

// TestFloodHidesNoSession has a user flood a host with short connections and then
// keep a session with the same host: the session is kept whole. Floods of sessions
// that last as long, or with ever more hosts, stay within their bounds.
func TestFloodHidesNoSession(t *testing.T) {
	s := newShares(Configuration{MaxBytes: 16 << 20, MaxAge: 24 * time.Hour}, func(uid uint32) uint32 { return uid })
	s.begin(time.Unix(1_800_000_000, 0))
	s.charge(1000, 1<<20) // beyond any share
	allowed := func(n int, lasted time.Duration, host string) (whole int) {
		for range n {
			e := ending{Remote: netip.AddrPortFrom(netip.MustParseAddr(host), 22), Started: 1e12, Ended: 1e12 + lasted.Milliseconds()}
			if s.allow(1000, e) {
				whole++
			}
		}
		return whole
	}
	for _, c := range []struct {
		n, want int
		lasted  time.Duration
	}{{6000, firstWithHost, time.Millisecond}, {1, 1, 10 * time.Second}, {6000, firstWithHost - 1, 9 * time.Second}, {1, 1, time.Hour}, {1, 0, 0}, {1, 0, -time.Second}} {
		if got := allowed(c.n, c.lasted, "192.0.2.9"); got != c.want {
			t.Errorf("of %d connections that lasted %v, %d are kept whole, want %d", c.n, c.lasted, got, c.want)
		}
	}
	total := 0
	for i := range 2 * maxFirst {
		total += allowed(1, 0, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String())
	}
	if want := maxFirst - 2*firstWithHost - 1; total != want {
		t.Errorf("%d connections with ever more hosts are kept whole, want %d", total, want)
	}
}

// TestManyUserNumbersHaveOneShare floods with all the subordinate user numbers of
// one user: they use up one share, and what others do is kept whole.
func TestManyUserNumbersHaveOneShare(t *testing.T) {
	config := Configuration{MaxBytes: 8 << 20, MaxAge: 24 * time.Hour}
	r := newWriter(t, t.TempDir(), config)
	r.shares = newShares(config, func(uid uint32) uint32 {
		if uid >= 100_000 && uid < 165_536 {
			return 1000
		}
		return uid
	})
	at := time.Unix(1_800_000_000, 0)
	here, there := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.9")
	for i := range 4096 {
		r.connect(int32(100+i), uint32(100_000+i), netip.AddrPortFrom(here, uint16(1024+i)), netip.AddrPortFrom(there, 80), at)
	}
	// One more connection may begin within the share, and some are kept beyond it.
	if used, share := r.shares.used[1000], r.shares.budget/parts; len(r.shares.used) != 1 || used > share+(2*firstWithHost+1)*1000 {
		t.Errorf("%d accounts, the user takes %d octets of a share of %d", len(r.shares.used), used, share)
	}
	for i := range 40 {
		local := netip.AddrPortFrom(here, uint16(10_000+i))
		r.connect(int32(5000+i), 1001, local, netip.AddrPortFrom(there, 80), at)
		if p, err := r.Find(context.Background(), local, netip.AddrPortFrom(there, 80), at); err != nil || p.Summarized || p.UID != 1001 {
			t.Errorf("connection %d of another user: %+v, %v", i, p, err)
		}
	}
}

// TestOriginsOfWhoStartedIt replays what the kernel would say of logins, and asks
// where connections came from.
func TestOriginsOfWhoStartedIt(t *testing.T) {
	r := newWriter(t, t.TempDir(), DefaultConfiguration())
	me, now := r.finder.OwnNetNS(), uint64(1e9)
	id := func(pid int32) kernel.ProcessID { return kernel.ProcessID{PID: pid, Start: uint64(pid) * 1e9} }
	address := func(host string, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(host), port)
	}
	fork := func(parent, pid int32) {
		now += 1e9
		r.table.add(kernel.Event{Kind: kernel.Forked, Time: now, ID: id(pid), Parent: id(parent), Name: fmt.Sprint("p", pid)})
	}
	exit := func(pid int32) { now += 1e9; r.table.add(kernel.Event{Kind: kernel.Exited, Time: now, ID: id(pid)}) }
	event := func(kind kernel.EventKind, d kernel.Direction, started uint64, opener, holder int32, local, remote netip.AddrPort) {
		now += 1e9
		e := kernel.Event{Kind: kind, Time: now, Started: started, Direction: d, NetNS: me, Local: local, Remote: remote}
		if opener != 0 {
			e.Opener = id(opener)
		}
		if holder != 0 {
			e.ID = id(holder)
		}
		r.table.add(e)
	}
	here := func(port uint16) netip.AddrPort { return address("192.0.2.1", port) }
	victim := address("198.51.100.1", 80)
	// An administrator starts sshd from his own login and leaves.
	fork(1, 10)
	admin := now
	event(kernel.Closed, kernel.Inbound, admin, 0, 10, here(22), address("192.0.2.50", 999))
	fork(10, 20) // sshd; the end of that login was before
	// A user logs in, detaches, and logs out; then what he left attacks.
	fork(20, 30)
	login := now
	event(kernel.Opened, kernel.Inbound, login, 0, 0, here(22), address("192.0.2.60", 1000))
	fork(30, 31) // his shell
	fork(31, 32) // what he leaves
	exit(31)
	event(kernel.Closed, kernel.Inbound, login, 0, 30, here(22), address("192.0.2.60", 1000))
	exit(30)
	fork(32, 33)
	event(kernel.Opened, kernel.Outbound, now, 33, 33, here(5000), victim)
	// Another user is logged in meanwhile.
	fork(20, 40)
	event(kernel.Opened, kernel.Inbound, now, 0, 40, here(22), address("192.0.2.70", 2000))
	fork(40, 41)
	event(kernel.Opened, kernel.Outbound, now, 41, 41, here(5001), victim)
	// A reverse shell: a process opens a connection, and a child of it another.
	fork(1, 50)
	event(kernel.Opened, kernel.Outbound, now, 50, 50, here(5002), address("192.0.2.80", 4444))
	fork(50, 51)
	event(kernel.Opened, kernel.Outbound, now, 51, 51, here(5003), victim)
	for local, want := range map[netip.AddrPort]string{
		here(5000): "192.0.2.60:1000 started from it",
		here(5001): "192.0.2.70:2000 started from it",
		here(5003): "192.0.2.80:4444 may have carried it",
	} {
		got := ""
		for _, o := range originsOf(r.table.open[ends{me, local, victim}.key()]) {
			got += fmt.Sprint(o.c.remote, " ", o.why)
		}
		if got != want {
			t.Errorf("%v came from %q, want %q", local, got, want)
		}
	}
}

// TestProcessesAreForgotten has many processes start and end: none stays.
func TestProcessesAreForgotten(t *testing.T) {
	table := newTable()
	parent := kernel.ProcessID{}
	for i := range 1000 {
		id := kernel.ProcessID{PID: int32(i + 2), Start: uint64(i) * 1e9}
		table.add(kernel.Event{Kind: kernel.Forked, ID: id, Parent: parent})
		table.add(kernel.Event{Kind: kernel.Exited, ID: parent, Time: 1})
		parent = id
	}
	if len(table.processes) != 1000 {
		t.Fatalf("%d processes are kept while one that descends from all runs", len(table.processes))
	}
	table.add(kernel.Event{Kind: kernel.Exited, ID: parent, Time: 1})
	if len(table.processes) != 0 || len(table.byPID) != 0 {
		t.Errorf("%d processes are kept after the last has ended", len(table.processes))
	}
}

// TestTornSegment cuts a segment, as a crash does: what was flushed is read.
func TestTornSegment(t *testing.T) {
	dir := t.TempDir()
	r := newWriter(t, dir, DefaultConfiguration())
	at := time.Now()
	local, remote := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")
	r.connect(7, 1000, local, remote, at)
	if err := r.log.flush(); err != nil {
		t.Fatal(err)
	}
	r.log.file.Write([]byte("torn"))
	if p, err := r.Find(context.Background(), local, remote, at); err != nil || p.UID != 1000 {
		t.Errorf("%+v, %v", p, err)
	}
	r.log.file.Close()
	os.RemoveAll(dir)
}

func FuzzParseLine(f *testing.F) {
	f.Add(line{Process: &processLine{ID: "1.2", Name: "x"}}.encode())
	f.Add(line{Summary: &summaryLine{Ports: []byte{1}}}.encode())
	f.Add(line{Connection: &connectionLine{Holders: []processName{"1.2"}}}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseLine(b)
		if err != nil {
			return
		}
		if l.Summary != nil {
			l.Summary.has(65535)
		}
		if l.Connection != nil {
			for _, h := range l.Connection.Holders {
				h.pid()
			}
			distanceOf(&l.Connection.ending, 1)
		}
	})
}
