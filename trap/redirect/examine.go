//go:build linux

package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"dragnet/internal/doctor"
)

// Examine checks, in the calling thread's network namespace, what this machine can
// know of the isolation of honeypots. Whether one has another network card it cannot.
func Examine(c Configuration) []doctor.Check {
	inside, err := netlink.LinkByName(c.Inside)
	if err != nil {
		return []doctor.Check{{Name: "interface " + c.Inside, Err: err, Fatal: true}}
	}
	link := inside.Attrs().Index
	return []doctor.Check{
		{Name: "way to the Internet", Err: checkDefaultRoute(link), Fatal: true, Good: "not behind " + c.Inside},
		{Name: "honeypots", Err: checkHoneypots(link, &c), Fatal: true, Good: fmt.Sprintf("%d, all behind %s", len(c.Honeypots), c.Inside)},
		{Name: "others behind " + c.Inside, Err: checkNeighbours(link, &c), Fatal: false, Good: "none was seen"},
		{Name: "unused prefixes", Err: checkUnused(&c), Fatal: true, Good: "no host was seen there"},
		{Name: "forwarding", Err: checkForwarding(&c), Fatal: true, Good: "on"},
		{Name: "rules", Err: checkRules(), Fatal: false, Good: "in place"},
	}
}

// checkDefaultRoute finds a way out through the honeypots' link: what is brought
// there would not be only theirs.
func checkDefaultRoute(link int) error {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, r := range routes {
		ones := 0
		if r.Dst != nil {
			ones, _ = r.Dst.Mask.Size()
		}
		if r.LinkIndex == link && ones == 0 && r.Gw != nil {
			return fmt.Errorf("this machine's default route is %s on that link: it is not for honeypots alone", r.Gw)
		}
	}
	return nil
}

func checkHoneypots(link int, c *Configuration) (all error) {
	for _, h := range c.Honeypots {
		routes, err := netlink.RouteGet(h.Address.AsSlice())
		switch {
		case err != nil:
			all = errors.Join(all, fmt.Errorf("%s: %w", h.Address, err))
		case len(routes) == 0 || routes[0].LinkIndex != link:
			all = errors.Join(all, fmt.Errorf("%s is not behind %s: nothing contains it", h.Address, c.Inside))
		}
	}
	return all
}

// present lists neighbours that answered lately, by link.
func present(link int) (found []netip.Addr, err error) {
	all, err := netlink.NeighList(link, netlink.FAMILY_ALL)
	const answered = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT
	for _, n := range all {
		if addr, ok := netip.AddrFromSlice(n.IP); ok && n.State&answered != 0 && !addr.IsLinkLocalUnicast() && !addr.IsMulticast() && !addr.IsLoopback() {
			found = append(found, addr.Unmap())
		}
	}
	return found, err
}

func checkNeighbours(link int, c *Configuration) error {
	found, err := present(link)
	if err != nil {
		return err
	}
	var others []string
	for _, a := range found {
		if !slices.ContainsFunc(c.Honeypots, func(h Honeypot) bool { return h.Address == a }) {
			others = append(others, a.String())
		}
	}
	if len(others) > 0 {
		return fmt.Errorf("%s: not listed under honeypots, and treated as one", strings.Join(others, ", "))
	}
	return nil
}

// checkUnused finds hosts in prefixes that should have none: this machine's own
// addresses, and neighbours on any link.
func checkUnused(c *Configuration) error {
	own, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	found, err := present(0)
	if err != nil {
		return err
	}
	for _, a := range own {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			found = append(found, addr.Unmap())
		}
	}
	var used []string
	for _, a := range found {
		if slices.ContainsFunc(c.Unused, func(p netip.Prefix) bool { return p.Contains(a) }) {
			used = append(used, a.String())
		}
	}
	if len(used) > 0 {
		slices.Sort(used)
		return fmt.Errorf("%s: in use; its connections would be brought to a honeypot", strings.Join(slices.Compact(used), ", "))
	}
	return nil
}

func checkForwarding(c *Configuration) (all error) {
	for _, v6 := range []bool{false, true} {
		if !slices.ContainsFunc(c.Honeypots, func(h Honeypot) bool { return h.Address.Is6() == v6 }) {
			continue
		}
		if err := doctor.CheckForwarding(v6); err != nil {
			all = errors.Join(all, fmt.Errorf("%w, so nothing is brought to a honeypot", err))
		}
	}
	return all
}

func checkRules() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("%w (reading rules needs CAP_NET_ADMIN)", err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }) {
		return fmt.Errorf("table inet %s is not there: honeypots are not contained until 'dragnet-agent run trap' has started once", tableName)
	}
	return nil
}
