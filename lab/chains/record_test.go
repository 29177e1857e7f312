// Package chains_test records chains of real ssh connections through one
// host, for detect/steppingstone to learn from and to be judged by.
package chains_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dragnet/detect/steppingstone"
	"dragnet/flow"
	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
	"dragnet/packet/capture"
)

// Kinds of chains, by what passes through them.
var kinds = []string{"interactive", "interactive", "bulk", "mixed"}

// TestRecordChains writes chains to the file that RECORD_CHAINS names: RECORD_COUNT
// of them at the same time, for RECORD_TIME, by what RECORD_SEED says. Each goes from
// 10.9.1.N by ssh through 10.9.0.1 to 10.9.2.N; the edge of 10.9.0.1 is captured.
func TestRecordChains(t *testing.T) {
	path := os.Getenv("RECORD_CHAINS")
	if path == "" {
		t.Skip("records only if RECORD_CHAINS names a file: see detect/steppingstone/testdata/README.md")
	}
	for _, tool := range []string{"ssh", "sshd", "ssh-keygen", "tcpdump"} {
		testkit.Tool(t, tool)
	}
	var count int
	var seed uint64
	during, err := time.ParseDuration(os.Getenv("RECORD_TIME"))
	if _, err2 := fmt.Sscan(os.Getenv("RECORD_COUNT")+" "+os.Getenv("RECORD_SEED"), &count, &seed); err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	dir := t.TempDir()
	l := netlab.For(t)
	nodes, err := l.Nodes("stone", "world")
	if err == nil {
		err = l.Wire(nodes[0], "eth0", nodes[1], "eth0")
	}
	if err == nil {
		err = nodes[0].Address("eth0", netip.MustParsePrefix("10.9.0.1/16"))
	}
	if err == nil {
		err = nodes[1].Address("eth0", netip.MustParsePrefix("10.9.0.2/16"))
	}
	for i := range count {
		for _, net := range []int{1, 2} {
			if err == nil {
				_, err = nodes[1].Run(t.Context(), "ip", "addr", "add", fmt.Sprintf("10.9.%d.%d/16", net, i+1), "dev", "eth0")
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	startServers(t, dir, nodes)
	pcap := filepath.Join(dir, "edge.pcap")
	dump, err := nodes[0].Start("tcpdump", "-i", "eth0", "-s", "96", "-B", "65536", "-U", "-w", pcap, "tcp port 22")
	if err == nil {
		err = dump.Await(t.Context(), "listening on")
	}
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			time.Sleep(time.Duration(i) * 100 * time.Millisecond) // log-ins cost much
			if err := play(t.Context(), nodes[1], dir, i+1, kinds[i%len(kinds)], r, during); err != nil {
				t.Logf("chain %d: %v", i+1, err)
			}
		})
	}
	wg.Wait()
	time.Sleep(time.Second)
	if err := dump.Stop(); err != nil {
		t.Log(err)
	}
	t.Log(dump.Output())
	if err := convert(pcap, path, count); err != nil {
		t.Fatal(err)
	}
}

func startServers(t *testing.T, dir string, nodes []*netlab.Node) {
	for _, name := range []string{"id", "hostkey"} {
		if b, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
	}
	for name, text := range map[string]string{
		"sshd_config": "HostKey %[1]s/hostkey\nAuthorizedKeysFile %[1]s/id.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\nMaxStartups 500\nPrintMotd no\nPrintLastLog no\n",
		"pieces":      "i=0; while [ $i -lt 200 ]; do i=$((i+1)); head -c $(( (i * $1 %% 97 + 1) * 4000 )) /dev/urandom; sleep $(( i * $2 %% 3 )).$(( i * $3 %% 10 )); done\n",
		"ssh_config":  "IdentityFile %[1]s/id\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\nUser root\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.NewReplacer("%[1]s", dir, "%%", "%").Replace(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	os.MkdirAll("/run/sshd", 0o755)
	sshd, _ := exec.LookPath("sshd")
	for _, n := range nodes {
		p, err := n.Start(sshd, "-D", "-e", "-f", filepath.Join(dir, "sshd_config"))
		if err == nil {
			err = p.Await(t.Context(), "listening on 0.0.0.0")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// play is one session through a chain.
func play(ctx context.Context, from *netlab.Node, dir string, n int, kind string, r *rand.Rand, during time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, during+30*time.Second)
	defer cancel()
	ssh := "ssh -F " + dir + "/ssh_config "
	tty, shell := "-tt ", "sh"
	if kind == "bulk" {
		tty, shell = "", "'cat > /dev/null'"
		if n%8 < 4 {
			// The other direction: the target sends, in pieces.
			shell = fmt.Sprintf("sh %s/pieces %d %d %d", dir, r.IntN(90)+7, r.IntN(90)+7, r.IntN(90)+7)
		}
	}
	cmd := from.Command(ctx, "sh", "-c", fmt.Sprintf("exec %s %s-b 10.9.1.%d 10.9.0.1 \"%s %s10.9.2.%d %s\"", ssh, tty, n, ssh, tty, n, shell))
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	if err := cmd.Start(); err != nil {
		return err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	time.Sleep(3 * time.Second)
	for end := time.Now().Add(during); time.Now().Before(end); {
		if kind == "bulk" {
			if _, err := in.Write(make([]byte, 1000+r.IntN(1<<uint(10+r.IntN(9))))); err != nil {
				return err
			}
			time.Sleep(pause(r, 0.8))
			continue
		}
		if err := typeLine(in, commands[r.IntN(len(commands))], r); err != nil {
			return err
		}
		if kind == "mixed" && r.IntN(3) == 0 {
			if err := typeLine(in, fmt.Sprintf("head -c %d /dev/urandom | base64", 20_000+r.IntN(300_000)), r); err != nil {
				return err
			}
		}
		time.Sleep(pause(r, 1.5))
	}
	return nil
}

var commands = []string{
	"ls", "ls -l /etc", "ps aux", "cat /etc/passwd", "id", "uname -a", "find /usr/share/doc -name 'a*'", "w", "df -h", "cat /proc/meminfo",
	"echo done", "grep -r root /etc/passwd", "history", "cd /tmp", "ss -tn", "sleep 1; date", "wc -l /etc/services", "for i in 1 2 3; do echo $i; sleep 1; done",
}

// typeLine types as people do: delays between keys are log-normal.
func typeLine(w io.Writer, line string, r *rand.Rand) error {
	for _, key := range line + "\n" {
		if _, err := io.WriteString(w, string(key)); err != nil {
			return err
		}
		time.Sleep(time.Duration(140 * math.Exp(0.5*r.NormFloat64()) * float64(time.Millisecond)))
	}
	return nil
}

// pause is a time of thinking, of the Pareto kind.
func pause(r *rand.Rand, seconds float64) time.Duration {
	return time.Duration(min(seconds*0.4*math.Pow(r.Float64(), -1/1.3), 12) * float64(time.Second))
}

// recorded is one line of the file: both connections of a chain.
type recorded struct {
	Kind          string
	Before, After *track
}

// track is one connection. Times are microseconds since the recording began; events
// are the time since the one before, and octets.
type track struct {
	Inbound           bool
	First, Last       int64
	Arriving, Leaving []int64
}

func trackOf(c *steppingstone.Connection, began flow.Time) *track {
	since := func(t flow.Time) int64 { return int64(t-began) / 1000 }
	flat := func(all []steppingstone.Event) (out []int64) {
		last := since(c.First)
		for _, e := range all {
			out = append(out, since(e.Time)-last, int64(e.Size))
			last = since(e.Time)
		}
		return out
	}
	return &track{c.Inbound, since(c.First), since(c.Last), flat(c.Arriving), flat(c.Leaving)}
}

func convert(pcap, path string, count int) error {
	f, err := capture.Open(pcap)
	if err != nil {
		return err
	}
	defer f.Close()
	c := steppingstone.DefaultConfiguration()
	c.Networks = []netip.Prefix{netip.MustParsePrefix("10.9.0.1/32")}
	table := steppingstone.NewTable(c)
	if err := table.Read(f.Reader); err != nil {
		return err
	}
	chains := make([]recorded, count)
	all := table.Connections()
	for _, x := range all {
		a := x.Outside.Addr().As4()
		if n := int(a[3]) - 1; n >= 0 && n < count {
			chains[n].Kind = kinds[n%len(kinds)]
			switch a[2] {
			case 1:
				chains[n].Before = trackOf(x, all[0].First)
			case 2:
				chains[n].After = trackOf(x, all[0].First)
			}
		}
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	z, _ := gzip.NewWriterLevel(out, gzip.BestCompression)
	enc := json.NewEncoder(z)
	var missing []string
	for i, x := range chains {
		if x.Before == nil || x.After == nil {
			missing = append(missing, fmt.Sprint(i+1))
			continue
		}
		if err := enc.Encode(x); err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		fmt.Println("not recorded:", strings.Join(missing, " "))
	}
	return z.Close()
}
