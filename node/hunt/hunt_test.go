package hunt_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dragnet/ask/detective"
	"dragnet/ask/witness"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/testkit"
	"dragnet/node/hunt"
	"dragnet/node/hunt/witnesses"
)

func configuration(change func(*detective.Configuration)) hunt.Configuration {
	c := hunt.Configuration{Witness: witness.DefaultConfiguration(), Detective: detective.Configuration{
		Mode: dossier.OPRF, Hash: key.Hash{Kind: key.Linear, Bits: 19}, Style: detective.Hybrid, KDFMemory: 64,
		Window: flow.AllTime, Epoch: "2026-11-22", Quorum: 1,
	}}
	if change != nil {
		change(&c.Detective)
	}
	return c
}

func run(t *testing.T, c hunt.Configuration, text string, args ...string) *hunt.Outcome {
	t.Helper()
	sources, err := witnesses.Open(args)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pattern.Parse(text, pattern.NoFiles)
	if err != nil {
		t.Fatal(err)
	}
	out, err := hunt.Run(context.Background(), c, p, sources)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// service is what a question fixes, target what it finds.
type service struct{ dst, proto, port string }

// byAwk reads the log with awk and knows nothing of keys and seals: for each
// TCP service, the originators with their number of flows.
func byAwk(t *testing.T, dir string) map[service]map[string]uint64 {
	awk := testkit.Tool(t, "mawk")
	files, err := filepath.Glob(filepath.Join(dir, "*.gz"))
	if err != nil || len(files) == 0 {
		t.Fatal("no logs", err)
	}
	script := `!/^#/ { n[$6 " " $8 " " $7 " " $4]++ } END { for (k in n) print k, n[k] }`
	cmd := exec.Command("sh", "-c", fmt.Sprintf("zcat %s | %s -F '\\t' '%s'", strings.Join(files, " "), awk, script))
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	out := map[service]map[string]uint64{}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		var v service
		var orig string
		var n uint64
		if _, err := fmt.Sscan(s.Text(), &v.dst, &v.proto, &v.port, &orig, &n); err != nil {
			t.Fatalf("%q: %v", s.Text(), err)
		}
		if out[v] == nil {
			out[v] = map[string]uint64{}
		}
		out[v][orig] = n
	}
	return out
}

// TestEqualsAwk asks for many services of a real log, busy ones, rare ones and
// ones that no flow used, with every hash, mode and side of the join.
func TestEqualsAwk(t *testing.T) {
	testkit.Long(t) // one goroutine, or another process
	dir := testkit.Data(t, "zeek-logs", "missing_host")
	all := byAwk(t, dir)
	var services []service
	for s := range all {
		if s.proto == "tcp" {
			services = append(services, s)
		}
	}
	slices.SortFunc(services, func(a, b service) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	rng := rand.New(rand.NewPCG(1, 1))
	rng.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })
	busiest := slices.MaxFunc(services, func(a, b service) int { return len(all[a]) - len(all[b]) })
	asked := append(services[:4:4], busiest, service{"64.225.56.201", "tcp", "65535"}, service{"192.0.2.77", "tcp", "1"})
	hashes := []string{"linear", "product", "product-mod", "product-mod:1009"}
	if testkit.Short(t) { // the race detector needs the paths, not the numbers
		hashes, asked = hashes[:2], asked[4:6]
	}
	for _, hash := range hashes {
		for _, mode := range []dossier.Mode{dossier.OPRF, dossier.Paper} {
			for _, here := range []bool{false, true} {
				for _, s := range asked {
					c := configuration(func(c *detective.Configuration) {
						h, err := key.ParseHash(hash, 19)
						if err != nil {
							t.Fatal(err)
						}
						c.Hash, c.Mode, c.JoinHere = h, mode, here
					})
					out := run(t, c, fmt.Sprintf("out dst=%s proto=tcp dport=%s", s.dst, s.port), dir)
					got := map[string]uint64{}
					for _, h := range out.Result.Hosts {
						got[h.Addr.String()] = h.Flows
					}
					want := all[s]
					if want == nil {
						want = map[string]uint64{}
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%v, %s, %v, joined here %v:\n%s", s, hash, mode, here, diff)
					}
				}
			}
		}
	}
}

// TestSilentNetworks goes through the whole hunt: a site's silent networks are
// left out of what its witnesses say.
func TestSilentNetworks(t *testing.T) {
	dir := testkit.Data(t, "zeek-logs", "missing_host")
	c := configuration(nil)
	before := run(t, c, "out dst=64.225.56.201 proto=tcp dport=22", dir).Result.Hosts
	if len(before) == 0 {
		t.Fatal("no host to be silent about")
	}
	c.Silent = []netip.Prefix{netip.PrefixFrom(before[0].Addr, 32)}
	after := run(t, c, "out dst=64.225.56.201 proto=tcp dport=22", dir).Result.Hosts
	if len(after) != len(before)-1 {
		t.Errorf("%d hosts with one silent, %d without", len(after), len(before))
	}
}
