// Package blocklist writes what is published as sets for packet filters: the
// hosts of a least confidence, each until it expires. The files define sets and
// no rule: that something is blocked is the operator's decision.
package blocklist

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	"dragnet/flow"
	"dragnet/publish"
)

// Files writes blocklist/nftables.nft and blocklist/ipset.txt with hosts of at
// least a confidence.
func Files(least int) publish.Files {
	return func(v *publish.View, to publish.Out) error {
		all := Select(v, v.Time, least)
		for _, f := range []struct {
			path  string
			write func(io.Writer, []Element) error
		}{{"blocklist/nftables.nft", NFTables}, {"blocklist/ipset.txt", IPSet}} {
			out, err := to.Create(f.path)
			if err != nil {
				return err
			}
			if err := f.write(out, all); err != nil {
				return err
			}
		}
		return nil
	}
}

// Element is a host in a set.
type Element struct {
	Host netip.Addr
	// Left is how long it stays, in whole seconds of at least one.
	Left time.Duration
}

// Select returns the hosts with an entry of at least a confidence, in order. A
// host in several groups stays until the last of those entries expires.
func Select(v *publish.View, now flow.Time, least int) (out []Element) {
	v.EachHost(now, func(rows []publish.Row) bool {
		var until flow.Time
		for i := range rows {
			if rows[i].Confidence >= least {
				until = max(until, rows[i].Until)
			}
		}
		if until > now {
			left := time.Duration(until - now)
			out = append(out, Element{rows[0].Host, max(left.Truncate(time.Second), time.Second)})
		}
		return true
	})
	return out
}

// NFTables writes a file for 'nft -f', which loads it whole or not at all: two
// sets in a separate table, emptied and filled again.
func NFTables(w io.Writer, all []Element) error {
	b := bufio.NewWriterSize(w, 64<<10)
	var line []byte
	fmt.Fprint(b, `# Sets of hosts to block, for 'nft -f'. They take effect once a rule uses them:
#   nft 'add chain inet dragnet input { type filter hook input priority -10; }'
#   nft 'add rule inet dragnet input ip saddr @block4 counter drop'
#   nft 'add rule inet dragnet input ip6 saddr @block6 counter drop'
table inet dragnet {
	set block4 { type ipv4_addr; flags interval, timeout; }
	set block6 { type ipv6_addr; flags interval, timeout; }
}
flush set inet dragnet block4
flush set inet dragnet block6
`)
	for _, family := range []struct {
		set string
		six bool
	}{{"block4", false}, {"block6", true}} {
		started := false
		for _, e := range all {
			if e.Host.Is6() != family.six {
				continue
			}
			if !started {
				fmt.Fprintf(b, "add element inet dragnet %s {\n", family.set)
				started = true
			}
			line = append(e.Host.AppendTo(line[:0]), " timeout "...)
			b.Write(append(strconv.AppendInt(line, int64(e.Left/time.Second), 10), "s,\n"...))
		}
		if started {
			fmt.Fprintln(b, "}")
		}
	}
	return b.Flush()
}

// longestTimeout is the most that ipset takes.
const longestTimeout = 2147483 * time.Second

// IPSet writes a file for 'ipset restore -exist': it fills new sets and swaps
// them with the old ones, so that no packet meets half a set.
func IPSet(w io.Writer, all []Element) error {
	b := bufio.NewWriterSize(w, 64<<10)
	var line []byte
	for _, family := range []struct {
		set, name string
		six       bool
	}{{"dragnet4", "inet", false}, {"dragnet6", "inet6", true}} {
		n := 0
		for _, e := range all {
			if e.Host.Is6() == family.six {
				n++
			}
		}
		for _, set := range []string{family.set, family.set + "-new"} {
			fmt.Fprintf(b, "create %s hash:net family %s maxelem %d timeout 86400\n", set, family.name, max(n, 65536))
		}
		fmt.Fprintf(b, "flush %s-new\n", family.set)
		for _, e := range all {
			if e.Host.Is6() == family.six {
				line = append(append(append(line[:0], "add "...), family.set...), "-new "...)
				line = append(e.Host.AppendTo(line), " timeout "...)
				b.Write(append(strconv.AppendInt(line, int64(min(e.Left, longestTimeout)/time.Second), 10), '\n'))
			}
		}
		fmt.Fprintf(b, "swap %s-new %s\ndestroy %s-new\n", family.set, family.set, family.set)
	}
	return b.Flush()
}
