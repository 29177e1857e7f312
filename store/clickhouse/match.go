package clickhouse

import (
	"context"
	"fmt"
	"strings"

	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// maxKeysInText is how many keys of one clue are put into a query to the
// server; with more, nearly every flow matches one.
const maxKeysInText = 10_000

// Lookup calls fn with the flows in w whose key is among the clue's, and that
// match its state, with the columns that its bounds need; the server computes the keys. If it cannot, ok is false.
func (s *Store) Lookup(ctx context.Context, c *dossier.AskedClue, h key.Hash, w flow.Window, fn func([]flow.Flow) error) (cov flow.Coverage, ok bool, err error) {
	if _, err := key.NewKeyer(c.Mask, c.End, h, c.Salt); err != nil {
		return flow.Coverage{}, false, err
	}
	expression, ok := keyExpression(c.Mask, c.End, h, c.Salt)
	if !ok || len(c.Keys) > maxKeysInText {
		return flow.Coverage{}, false, nil
	}
	keys := make([]string, len(c.Keys))
	for i, k := range c.Keys {
		keys[i] = k.K.String()
	}
	v, err := s.readView(ctx)
	if err != nil {
		return flow.Coverage{}, false, err
	}
	first := expression + " IN (" + strings.Join(keys, ", ") + ")"
	if c := familyCondition(c.Mask, c.End); c != "" {
		first = c + " AND " + first
	}
	err = s.readFlows(ctx, first, v.visible+" AND "+windowCondition(w)+" AND "+inState(c.State), flow.Failures|c.Bounds.Columns(), fn)
	return v.Coverage, true, err
}

// farColumns names the columns of the host at the far end from X.
func farColumns(end key.End) string {
	if end == key.In {
		return "src"
	}
	return "dst"
}

// familyCondition is the condition that the far host's address is of the mask's family.
func familyCondition(m key.Mask, end key.End) string {
	switch m.Family {
	case key.IPv4:
		return isIPv4(farColumns(end))
	case key.IPv6:
		return "NOT " + isIPv4(farColumns(end))
	}
	return ""
}

// keyExpression computes a flow's key as key.Keyer does; ok is false if SQL's 64
// bits do not suffice. Every column is widened, since the width of a product
// follows from those of its factors.
func keyExpression(m key.Mask, end key.End, h key.Hash, salt key.Salt) (text string, ok bool) {
	switch h.Kind {
	case key.Linear:
		a := key.Coefficients(salt)
		var terms []string
		for i, limb := range smallNumbers(m, end) {
			terms = append(terms, fmt.Sprintf("toUInt64(%d) * %s", a[i], limb))
		}
		return fmt.Sprintf("bitAnd((%s) %% 2147483647, %d)", strings.Join(terms, " + "), uint64(1)<<h.Bits-1), true
	case key.Product:
		return strings.Join(byteFactors(m, end), " * "), true // the server's product wraps at 2^64 too
	case key.ProductMod:
		// Each step multiplies what is below the modulus by a byte.
		if h.Modulus > 1<<56 {
			return "", false
		}
		text = "toUInt64(1)"
		for _, f := range byteFactors(m, end) {
			text = fmt.Sprintf("((%s) * %s) %% %d", text, f, h.Modulus)
		}
		return text, true
	}
	return "", false
}

// addressHalves are the masked columns of the far host's address with their bits.
func addressHalves(m key.Mask, end key.End) (columns []string, bits []int) {
	at, prefix := farColumns(end), int(m.Prefix)
	masked := func(column string, kept, of int) string {
		kept = max(0, min(kept, of))
		return fmt.Sprintf("bitAnd(%s, toUInt64(%d))", column, (uint64(1)<<kept-1)<<(of-kept))
	}
	switch m.Family {
	case key.IPv4:
		return []string{masked(at+"_lo", prefix, 32)}, []int{32}
	case key.IPv6:
		return []string{masked(at+"_hi", prefix, 64), masked(at+"_lo", prefix-64, 64)}, []int{64, 64}
	}
	return nil, nil
}

// smallNumbers are the components as numbers of 16 bits or less.
func smallNumbers(m key.Mask, end key.End) (out []string) {
	columns, bits := addressHalves(m, end)
	for i, c := range columns {
		for shift := bits[i] - 16; shift >= 0; shift -= 16 {
			out = append(out, fmt.Sprintf("bitAnd(bitShiftRight(%s, %d), 65535)", c, shift))
		}
	}
	return append(out, portNumbers(m)...)
}

func portNumbers(m key.Mask) (out []string) {
	if m.SPort {
		out = append(out, "toUInt64(src_port)")
	}
	if m.DPort {
		out = append(out, "toUInt64(dst_port)")
	}
	if m.Proto {
		out = append(out, "toUInt64(proto)")
	}
	return out
}

// byteFactors are the bytes of the components, zeros counted as one.
func byteFactors(m key.Mask, end key.End) (out []string) {
	add := func(column string, bits int) {
		for shift := bits - 8; shift >= 0; shift -= 8 {
			out = append(out, fmt.Sprintf("toUInt64(greatest(bitAnd(bitShiftRight(%s, %d), 255), 1))", column, shift))
		}
	}
	columns, bits := addressHalves(m, end)
	for i, c := range columns {
		add(c, bits[i])
	}
	for _, c := range portNumbers(m) {
		if bits := 16; strings.Contains(c, "proto") {
			add(c, 8)
		} else {
			add(c, bits)
		}
	}
	return out
}

// The conditions that a flow was established, or failed, as flow.Flow says.
var (
	established = "state IN " + stateList((*flow.Flow).Established)
	failed      = fmt.Sprintf("(icmp_error != 0 OR proto = %d AND state IN %s)", flow.TCP, stateList((*flow.Flow).Failed))
)

// stateList lists the states of TCP connections that match.
func stateList(fit func(*flow.Flow) bool) string {
	var names []string
	for s := range flow.State(255) {
		if fit(&flow.Flow{Proto: flow.TCP, State: s}) {
			names = append(names, fmt.Sprint(uint8(s)))
		}
	}
	return "(" + strings.Join(names, ", ") + ")"
}

func inState(f pattern.StateFilter) string {
	if f == pattern.AnyState {
		return "1"
	}
	var any []string
	if f&pattern.Established != 0 {
		any = append(any, established)
	}
	if f&pattern.Failed != 0 {
		any = append(any, failed)
	}
	for s := flow.S0; s <= flow.OTH; s++ {
		if f&pattern.InState(s) != 0 {
			any = append(any, fmt.Sprintf("state = %d", uint8(s)))
		}
	}
	return "(" + strings.Join(any, " OR ") + ")"
}
