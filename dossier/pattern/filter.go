package pattern

import (
	"fmt"
	"net/netip"
	"strings"

	"dragnet/flow"
)

// Filter selects flows of a log. It is written like a clue without its first
// word, and leaves no host open:
//
//	filter = { field "=" value }
//	fields = src dst host sport dport proto state
//
// Host is either end; a flow must match every field. Values are those of clues.
type Filter struct {
	// Src, Dst and Host hold prefixes, any of which may match; none leaves the
	// field open.
	Src, Dst, Host []netip.Prefix
	SPort, DPort   []uint16
	Proto          []flow.Proto
	State          StateFilter
}

// ParseFilter reads a filter; open is as for Parse. Empty text matches all
// flows.
func ParseFilter(text string, open OpenFile) (*Filter, error) {
	if len(text) > MaxLength {
		return nil, &SyntaxError{1, fmt.Sprintf("longer than %d bytes; put long lists into a file: dst=@list.txt", MaxLength)}
	}
	p := &parser{open: open}
	f, c := &Filter{}, &Clue{}
	seen := map[string]bool{}
	for _, t := range splitTokens(text) {
		field, value, isField := strings.Cut(t.text, "=")
		field = strings.ToLower(field)
		if !isField || seen[field] {
			return nil, p.syntaxError(t, "%q: want each of src= dst= host= sport= dport= proto= state= at most once", t.text)
		}
		seen[field] = true
		var err error
		switch field {
		case "src":
			err = parseValues(p, t, value, &f.Src, parsePrefix)
		case "dst":
			err = parseValues(p, t, value, &f.Dst, parsePrefix)
		case "host":
			err = parseValues(p, t, value, &f.Host, parsePrefix)
		case "sport", "dport", "proto", "state":
			err = p.parseField(c, field, value, t)
		default:
			err = p.syntaxError(t, "unknown field %q; fields are src dst host sport dport proto state", field)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, prefixes := range [][]netip.Prefix{f.Src, f.Dst, f.Host} {
		c.Proto = readICMP(c.Proto, prefixes)
	}
	f.SPort, f.DPort, f.Proto, f.State = c.SPort, c.DPort, c.Proto, c.State
	return f, nil
}

// Matches reports whether a flow matches the filter.
func (f *Filter) Matches(v *flow.Flow) bool {
	return anyOf(f.SPort, v.OrigPort) && anyOf(f.DPort, v.RespPort) && anyOf(f.Proto, v.Proto) &&
		anyContains(f.Src, v.Orig) && anyContains(f.Dst, v.Resp) && (anyContains(f.Host, v.Orig) || anyContains(f.Host, v.Resp)) && f.State.Accepts(v)
}

func anyContains(prefixes []netip.Prefix, a netip.Addr) bool {
	return len(prefixes) == 0 || flow.Within(prefixes, a)
}
