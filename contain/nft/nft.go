// Package nft applies Decisions on a Linux router by nftables.
//
// It owns one table, "inet dragnet", and touches no other. Two sets hold the
// blocked sources, IPv4 and IPv6, and more sets those that a limit holds back
// for a short time (see Hold); their elements expire in the kernel, so that a
// block ends on time even if this program has died. A forward chain drops
// packets that would open a connection from them: TCP SYNs, and for other
// protocols what conntrack calls new. Existing connections continue, and a
// blocked server may still accept. TCP is judged by its flags because conntrack
// takes a connection older than itself for new.
//
// Apply replaces the sets' contents in one transaction of the kernel: at no
// instant is half of a change in effect. Then it reads the sets back from the
// kernel, and the receipts report those.
package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"dragnet/dossier"
	"dragnet/flow"
)

// tableName is the table this package owns.
const tableName = "dragnet"

// Router applies decisions in the network namespace it was opened in. It is not
// safe for concurrent use.
type Router struct {
	// Name identifies this router in receipts.
	Name string

	conn  *nftables.Conn
	table *nftables.Table
	sets  [2]*nftables.Set // IPv4, IPv6
	held  heldSets

	current bool // the table, if there is one, is this version's
}

// Open connects to the kernel, from the calling thread's network namespace. It
// needs CAP_NET_ADMIN there. Nothing is changed until Apply.
func Open(name string) (*Router, error) {
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(growBuffers))
	if err != nil {
		return nil, fmt.Errorf("nftables: %w (it needs CAP_NET_ADMIN)", err)
	}
	r := &Router{Name: name, conn: conn, table: &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}}
	for i, s := range []struct {
		name string
		kind nftables.SetDatatype
	}{{"blocked4", nftables.TypeIPAddr}, {"blocked6", nftables.TypeIP6Addr}} {
		r.sets[i] = &nftables.Set{Table: r.table, Name: s.name, KeyType: s.kind, Interval: true, HasTimeout: true}
	}
	r.held = newHeldSets(r.table)
	return r, nil
}

// bufferSize takes a transaction of as many elements as a guard or a decision may
// name, and the kernel's acknowledgement of each message.
const bufferSize = 64 << 20

func growBuffers(c *netlink.Conn) error {
	return errors.Join(c.SetWriteBuffer(bufferSize), c.SetReadBuffer(bufferSize))
}

// perMessage bounds the elements of one message: the length of an attribute has 16
// bits. It is even, so that a message holds both ends of a range.
const perMessage = 256

// queueElements has change add elements to a set, or delete them from it, in messages
// that the kernel takes.
func queueElements(change func(*nftables.Set, []nftables.SetElement) error, set *nftables.Set, elements []nftables.SetElement) error {
	for some := range slices.Chunk(elements, perMessage) {
		if err := change(set, some); err != nil {
			return fmt.Errorf("nftables: set %s: %w", set.Name, err)
		}
	}
	return nil
}

// Check reports whether this program may use nftables here. It changes nothing.
func Check() error {
	r, err := Open("")
	if err != nil {
		return err
	}
	_, err = r.tableExists()
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w (it needs CAP_NET_ADMIN)", err)
	}
	return errors.Join(err, r.Close())
}

// Close closes the connection to the kernel. Applied blocks stay until they
// expire.
func (r *Router) Close() error { return r.conn.CloseLasting() }

// Apply puts the active decisions, and no others, into effect. The receipt of
// each says whether it is in effect. On an error the kernel is unchanged.
func (r *Router) Apply(now flow.Time, decisions []dossier.Decision) ([]dossier.Receipt, error) {
	wanted := planBlocks(now, decisions)
	if err := r.ensureTable(); err != nil {
		return nil, err
	}
	for i, set := range r.sets {
		r.conn.FlushSet(set)
		if err := queueElements(r.conn.SetAddElements, set, wanted.setElements(i == 1)); err != nil {
			return nil, err
		}
	}
	if err := r.conn.Flush(); err != nil {
		return nil, fmt.Errorf("nftables: apply %d decisions to table inet %s: %w", len(decisions), tableName, err)
	}
	return r.makeReceipts(now, decisions)
}

// ensureTable queues the creation of the table if it does not exist.
func (r *Router) ensureTable() error {
	there, err := r.tableExists()
	if err != nil {
		return err
	}
	if there && !r.current {
		// A table that an earlier version left lacks what is needed now.
		sets, err := r.conn.GetSets(r.table)
		if err != nil {
			return fmt.Errorf("nftables: list sets: %w", err)
		}
		if there = slices.ContainsFunc(sets, func(s *nftables.Set) bool { return s.Name == answeredName[0] }); !there {
			r.conn.DelTable(r.table)
		}
	}
	r.current = true
	if there {
		return nil
	}
	return r.buildTable()
}

// Remove deletes the table, and with it every block.
func (r *Router) Remove() error {
	there, err := r.tableExists()
	if err != nil || !there {
		return err
	}
	r.conn.DelTable(r.table)
	if err := r.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: delete table inet %s: %w", tableName, err)
	}
	return nil
}

func (r *Router) tableExists() (bool, error) {
	tables, err := r.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("nftables: list tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == tableName {
			return true, nil
		}
	}
	return false, nil
}

// buildTable queues the table, its sets and its rules.
func (r *Router) buildTable() error {
	r.conn.AddTable(r.table)
	policy := nftables.ChainPolicyAccept
	chain := r.conn.AddChain(&nftables.Chain{
		Name: "forward", Table: r.table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
		Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityFilter - 5), Policy: &policy,
	})
	for i, set := range r.sets {
		if err := r.conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("nftables: set %s: %w", set.Name, err)
		}
		for _, opening := range [][]expr.Any{tcpOpens(), otherOpens()} {
			exprs := append(matchSource(set, i == 1), opening...)
			exprs = append(exprs, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})
			r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: chain, Exprs: exprs})
		}
	}
	return r.buildHeld(chain)
}

// matchSource returns "ip saddr @set", or ip6.
func matchSource(set *nftables.Set, v6 bool) []expr.Any {
	family, offset, length := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if v6 {
		family, offset, length = unix.NFPROTO_IPV6, 8, 16
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
	}
}

// tcpOpens is "tcp flags & (syn | ack) == syn".
func tcpOpens() []expr.Any {
	const syn, ack = 0x02, 0x10
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{syn | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{syn}},
	}
}

// otherOpens is "meta l4proto != tcp ct state new".
func otherOpens() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// makeReceipts reads the sets back and compares.
func (r *Router) makeReceipts(now flow.Time, decisions []dossier.Decision) ([]dossier.Receipt, error) {
	var have blocks
	for _, set := range r.sets {
		elements, err := r.conn.GetSetElements(set)
		if err != nil {
			return nil, fmt.Errorf("nftables: read back set %s: %w", set.Name, err)
		}
		have = append(have, parseElements(elements)...)
	}
	var all []dossier.Receipt
	for _, d := range decisions {
		receipt := dossier.Receipt{Version: dossier.ReceiptVersion, Decision: d.ID, Point: "nft: inet " + tableName + " on " + r.Name, Time: now}
		if err := checkApplicable(now, &d); err != nil {
			receipt.Problem = err.Error()
		} else if b, ok := have.findCovering(d.Target); ok {
			receipt.Applied = true
			receipt.Proof = fmt.Sprintf("the kernel drops new connections from %s for another %s", b, b.left.Round(time.Second))
		} else {
			receipt.Problem = "the kernel does not list " + d.Target.String()
		}
		all = append(all, receipt)
	}
	return all, nil
}

func checkApplicable(now flow.Time, d *dossier.Decision) error {
	switch {
	case d.Standing != nil:
		return errors.New("not applied: a standing decision blocks no address")
	case d.Verdict != dossier.Active:
		return fmt.Errorf("not applied: the decision is %s", d.Verdict)
	case now >= d.Until:
		return errors.New("not applied: it has expired")
	case !d.Target.IsValid() || d.Target.Bits() == 0:
		return fmt.Errorf("not applied: %s would block every address", d.Target)
	}
	return nil
}

// lastAddr is the last address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
