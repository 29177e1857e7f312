//go:build linux

package redirect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	netlinkconn "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inetIngress is NF_INET_INGRESS (Linux 5.10 and later), the hook before all that
// reads a packet of a family.
const inetIngress = 5

// readBuffer is room for the acknowledgements of a transaction, in bytes.
const readBuffer = 4 << 20

// tableName is the nftables table this package owns.
const tableName = "dragnet-trap"

// Translator is the two translators in the network namespace it is started in.
type Translator struct {
	c    Configuration
	port uint16
}

// New makes translators that bring what honeypots send to the given port of this
// machine; Start installs them.
func New(c Configuration, port uint16) (*Translator, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Translator{c, port}, nil
}

// Start installs the rules, in one transaction that replaces those of an earlier
// run: connections that were redirected before go on. It needs CAP_NET_ADMIN.
func (t *Translator) Start(context.Context) error {
	if _, err := netlink.LinkByName(t.c.Inside); err != nil {
		return fmt.Errorf("redirect.inside: interface %s: %w", t.c.Inside, err)
	}
	if err := t.addRoutes(); err != nil {
		return errors.Join(err, t.removeRoutes())
	}
	if err := t.load(true); err != nil {
		return fmt.Errorf("nftables: %w (it needs CAP_NET_ADMIN)", err)
	}
	return nil
}

// Stop ends the redirection, and leaves the rules in place that drop what honeypots
// send while there is no agent. Connections that were
// brought to a honeypot go on, and an agent that starts again takes over. Remove
// removes all rules.
func (t *Translator) Stop(context.Context) error {
	if err := t.load(false); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// Remove removes the rules and routes. Honeypots that still run may then send
// wherever routing allows: stop them first.
func (t *Translator) Remove() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
	conn.AddTable(table) // so that deleting it succeeds in either case
	conn.DelTable(table)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: delete table inet %s: %w", tableName, err)
	}
	return t.removeRoutes()
}

// families are those of which packets are routed to this machine by their mark.
var families = []int{unix.AF_INET, unix.AF_INET6}

func (t *Translator) rule(family int) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Mark, r.Table, r.Priority = family, t.c.Mark, int(t.c.Mark), 100
	return r
}

// addRoutes has marked packets delivered here, whatever their destination.
func (t *Translator) addRoutes() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback interface: %w", err)
	}
	for _, family := range families {
		if err := netlink.RuleAdd(t.rule(family)); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("routing rule for mark %d: %w", t.c.Mark, err)
		}
		all := netip.MustParsePrefix("0.0.0.0/0")
		if family == unix.AF_INET6 {
			all = netip.MustParsePrefix("::/0")
		}
		route := &netlink.Route{LinkIndex: lo.Attrs().Index, Table: int(t.c.Mark), Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Dst: ipNet(all), Family: family}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("local route in table %d: %w", t.c.Mark, err)
		}
	}
	return nil
}

func (t *Translator) removeRoutes() (all error) {
	for _, family := range families {
		if err := netlink.RuleDel(t.rule(family)); err != nil && !errors.Is(err, os.ErrNotExist) {
			all = errors.Join(all, fmt.Errorf("remove routing rule for mark %d: %w", t.c.Mark, err))
		}
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: int(t.c.Mark)}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return errors.Join(all, err)
		}
		for i := range routes {
			all = errors.Join(all, netlink.RouteDel(&routes[i]))
		}
	}
	return all
}

// builder collects the expressions of rules.
type builder struct {
	conn  *nftables.Conn
	table *nftables.Table
}

func (b *builder) rule(chain *nftables.Chain, parts ...[]expr.Any) {
	var exprs []expr.Any
	for _, p := range parts {
		exprs = append(exprs, p...)
	}
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: chain, Exprs: exprs})
}

// load replaces the table in one transaction; unless redirecting, what honeypots
// send is dropped.
func (t *Translator) load(redirecting bool) error {
	// The kernel acknowledges each rule before the next is read.
	conn, err := nftables.New(nftables.WithSockOptions(func(c *netlinkconn.Conn) error { return c.SetReadBuffer(readBuffer) }))
	if err != nil {
		return err
	}
	b := &builder{conn, &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}}
	// Adding before deleting makes the deletion succeed in either case.
	conn.AddTable(b.table)
	conn.DelTable(b.table)
	conn.AddTable(b.table)
	unused, alive, err := t.addSets(b)
	if err != nil {
		return err
	}
	networks, err := b.addPrefixes("networks", t.c.Networks)
	if err != nil {
		return err
	}
	accept := nftables.ChainPolicyAccept
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
		return conn.AddChain(&nftables.Chain{Name: name, Table: b.table, Type: kind, Hooknum: hook, Priority: &priority, Policy: &accept})
	}
	ingress := conn.AddChain(&nftables.Chain{
		Name: "ingress", Table: b.table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookRef(inetIngress), Priority: nftables.ChainPriorityFilter, Device: t.c.Inside,
	})
	mangle := chain("prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityMangle)
	nat := chain("gate", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest)
	forward := chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter-10)
	if t.c.Outside != "" {
		for i, v6 := range []bool{false, true} {
			a, err := b.addRequestSets(v6)
			if err != nil {
				return fmt.Errorf("sets of what came in: %w", err)
			}
			chain := t.addUnwanted(b, mangle, a, unused[i], nil, isProto(unix.IPPROTO_UDP))
			// No host has these addresses, so nothing but a SYN begins a connection.
			b.rule(chain, isProto(unix.IPPROTO_TCP), isNew(), lacksFlags(0x02), counter(), verdict(expr.VerdictDrop))
			if len(t.c.Networks) > 0 {
				t.addUnwanted(b, mangle, a, networks[i], t.wanted(v6), t.listedUDP()...)
			}
			a.allowAnswers(b, forward, append(onInterface(t.c.Inside), isReply()...))
		}
	}
	// The kernel reads hop-by-hop options before all other hooks, and answers one it
	// does not know with an error, which has the packet in it, to a source that may be
	// forged. Only multicast listeners' reports need them, for which there is no use
	// here.
	b.rule(ingress, hasHopByHop(), counter(), verdict(expr.VerdictDrop))
	t.addInternal(b, mangle, nat, forward, redirecting)
	if t.c.Outside != "" && redirecting {
		t.addGate(b, mangle, nat, unused, alive)
		if len(t.c.Networks) > 0 {
			t.addNetworkGate(b, nat, networks)
		}
	}
	return conn.Flush()
}

// addSets adds the unused prefixes, and the addresses in them that turned out to
// be in use, for IPv4 and IPv6.
func (t *Translator) addSets(b *builder) (unused, alive [2]*nftables.Set, err error) {
	if unused, err = b.addPrefixes("unused", t.c.Unused); err != nil {
		return unused, alive, err
	}
	for i, kind := range addressTypes {
		alive[i] = &nftables.Set{Table: b.table, Name: fmt.Sprintf("alive%d", 4+2*i), KeyType: kind, HasTimeout: true, Dynamic: true, Size: 1 << 16, Timeout: aliveTime}
		if err := b.conn.AddSet(alive[i], nil); err != nil {
			return unused, alive, fmt.Errorf("set %s: %w", alive[i].Name, err)
		}
	}
	return unused, alive, nil
}

// addressTypes are the keys of sets of addresses, of IPv4 and IPv6.
var addressTypes = []nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr}

// addPrefixes adds sets of prefixes, for IPv4 and IPv6.
func (b *builder) addPrefixes(name string, prefixes []netip.Prefix) (sets [2]*nftables.Set, err error) {
	for i, kind := range addressTypes {
		sets[i] = &nftables.Set{Table: b.table, Name: fmt.Sprintf("%s%d", name, 4+2*i), KeyType: kind, Interval: true}
		var elements []nftables.SetElement
		for _, n := range prefixes {
			if n.Addr().Is6() == (i == 1) {
				elements = append(elements, nftables.SetElement{Key: n.Addr().AsSlice()})
				if end, ok := firstAfter(n); ok {
					elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
				}
			}
		}
		if err := b.conn.AddSet(sets[i], elements); err != nil {
			return sets, fmt.Errorf("set %s: %w", sets[i].Name, err)
		}
	}
	return sets, nil
}

// firstAfter is the first address after a prefix.
func firstAfter(n netip.Prefix) (netip.Addr, bool) {
	last := n.Addr().AsSlice()
	for bit := n.Bits(); bit < n.Addr().BitLen(); bit++ {
		last[bit/8] |= 1 << (7 - bit%8)
	}
	end, _ := netip.AddrFromSlice(last)
	end = end.Next()
	return end, end.IsValid()
}

// addInternal adds the internal translator: TCP and UDP of honeypots go to the
// array with their destination unchanged (TPROXY), ICMP is answered by this
// machine, and nothing else that they originate passes.
func (t *Translator) addInternal(b *builder, mangle, nat, forward *nftables.Chain, redirecting bool) {
	inside := onInterface(t.c.Inside)
	// Under another's address a honeypot could speak in that one's connections, and
	// have this machine answer to it, with an error or a redirect.
	b.rule(mangle, inside, hasForgedSource(), counter(), verdict(expr.VerdictDrop))
	b.rule(mangle, inside, isNeighbourDiscovery(), verdict(expr.VerdictAccept))
	// A honeypot without an address yet may only look for neighbours.
	b.rule(mangle, inside, hasNoSource(), counter(), verdict(expr.VerdictDrop))
	// Packets of sessions that the array has are found by their socket.
	b.rule(mangle, inside, isProto(unix.IPPROTO_TCP), hasSocket(), setMark(t.c.Mark), verdict(expr.VerdictAccept))
	// What belongs to a session that came from outside is the honeypot's answer.
	b.rule(mangle, inside, isReply(), verdict(expr.VerdictAccept))
	protocols := []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP}
	if !redirecting {
		protocols = nil
	}
	for _, proto := range protocols {
		b.rule(mangle, inside, isProto(proto), counter(), tproxy(t.port), setMark(t.c.Mark), verdict(expr.VerdictAccept))
	}
	for _, v6 := range []bool{false, true} {
		b.rule(mangle, inside, isICMPEcho(v6), verdict(expr.VerdictAccept))
		b.rule(nat, inside, isICMPEcho(v6), []expr.Any{&expr.Redir{}}) // this machine answers
	}
	b.rule(mangle, inside, counter(), verdict(expr.VerdictDrop))
	b.rule(forward, inside, isReply(), isEstablished(), verdict(expr.VerdictAccept))
	b.rule(forward, inside, counter(), verdict(expr.VerdictDrop))
}

// addGate adds the gate translator. An unused address that sends anything is in
// use after all: for a day nothing more is brought to honeypots in its name.
func (t *Translator) addGate(b *builder, mangle, nat *nftables.Chain, unused, alive [2]*nftables.Set) {
	for i := range unused {
		v6 := i == 1
		b.rule(mangle, notOnInterface(t.c.Outside), notOnInterface(t.c.Inside), source(v6), inSet(unused[i], false), source(v6),
			[]expr.Any{&expr.Dynset{SrcRegKey: 1, SetName: alive[i].Name, SetID: alive[i].ID, Operation: uint32(unix.NFT_DYNSET_OP_UPDATE), Timeout: aliveTime}})
		t.addTargets(b, nat, v6, append(inSet(unused[i], false), inSet(alive[i], true)...), (*Honeypot).ports)
	}
}

// addTargets brings a share of what comes from outside for destinations that match to
// honeypots, by their services.
func (t *Translator) addTargets(b *builder, nat *nftables.Chain, v6 bool, match []expr.Any, services func(*Honeypot) [][]expr.Any) {
	for i := range t.c.Honeypots {
		h := &t.c.Honeypots[i]
		if h.Address.Is6() != v6 {
			continue
		}
		var some []expr.Any
		if t.c.Share < 1000 {
			some = share(uint32(t.c.Share))
		}
		for _, service := range services(h) {
			b.rule(nat, onInterface(t.c.Outside), destination(v6), match, some, service, counter(), dnat(h.Address))
		}
	}
}

// ports are the matches for what a honeypot is brought.
func (h *Honeypot) ports() [][]expr.Any {
	if len(h.TCP)+len(h.UDP) == 0 {
		return [][]expr.Any{isProto(unix.IPPROTO_TCP), isProto(unix.IPPROTO_UDP)}
	}
	return append(toPorts(unix.IPPROTO_TCP, h.TCP), toPorts(unix.IPPROTO_UDP, h.UDP)...)
}
