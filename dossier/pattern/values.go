package pattern

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// parseValues parses a literal, a list of them with commas, or a file of them,
// without repeats.
func parseValues[T comparable](p *parser, t token, value string, into *[]T, parse func(string) (T, error)) error {
	return parseLists(p, t, value, into, func(s string) ([]T, error) {
		v, err := parse(s)
		return []T{v}, err
	})
}

// parseLists is parseValues for literals that may mean several values each.
func parseLists[T comparable](p *parser, t token, value string, into *[]T, parse func(string) ([]T, error)) error {
	name, isFile := strings.CutPrefix(value, "@")
	var literals []token
	if isFile {
		var err error
		if literals, err = readList(p.open, name); err != nil {
			return p.syntaxError(t, "%v", err)
		}
	} else {
		for part := range strings.SplitSeq(value, ",") {
			literals = append(literals, token{part, 0})
		}
	}
	seen := map[T]bool{}
	for _, l := range literals {
		values, err := parse(l.text)
		switch {
		case err != nil && isFile:
			return p.syntaxError(t, "%s:%d: %v", name, l.column, err)
		case err != nil && l.text == "":
			return p.syntaxError(t, "%q: a value is missing; lists have commas and no blanks, such as dport=22,2222", t.text)
		case err != nil && strings.HasPrefix(l.text, "@"):
			return p.syntaxError(t, "%q: a file cannot be part of a list", l.text)
		case err != nil:
			return p.syntaxError(t, "%v", err)
		}
		for _, v := range values {
			if !seen[v] {
				seen[v] = true
				*into = append(*into, v)
			}
		}
		if len(*into) > MaxValues {
			return p.syntaxError(t, "more than %d values in one field", MaxValues)
		}
	}
	return nil
}

// readList returns the non-empty lines of a file, their number as column.
func readList(open OpenFile, name string) ([]token, error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const maxFile = 1 << 20
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	var out []token
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, token{line, n})
		}
	}
	switch {
	case len(out) == 0:
		return nil, fmt.Errorf("%s has no values", name)
	case len(out) > MaxValues:
		return nil, fmt.Errorf("%s has %d values; at most %d", name, len(out), MaxValues)
	}
	return out, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	pre, err := netip.ParsePrefix(s)
	if err == nil && pre.Addr().Is4In6() && pre.Bits() >= 96 {
		pre = netip.PrefixFrom(pre.Addr().Unmap(), pre.Bits()-96)
	}
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is not an address or prefix", s)
	case pre.Bits() == 0:
		return netip.Prefix{}, fmt.Errorf("%s fixes nothing; leave the field out", s)
	case pre != pre.Masked():
		return netip.Prefix{}, fmt.Errorf("%s has host bits set; write %s", s, pre.Masked())
	}
	return pre, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port %q is not a number 0-65535", s)
	}
	return uint16(n), nil
}

// parsePorts reads a port, or a range of them with both its ends: 6660-6669.
func parsePorts(s string) ([]uint16, error) {
	from, to, isRange := strings.Cut(s, "-")
	first, err := parsePort(from)
	if err != nil || !isRange {
		return []uint16{first}, err
	}
	last, err := parsePort(to)
	if err != nil {
		return nil, err
	}
	n := int(last) - int(first) + 1
	switch {
	case n < 1:
		return nil, fmt.Errorf("ports %s: the range ends before it begins", s)
	case n > MaxValues:
		return nil, fmt.Errorf("ports %s are %d values; at most %d", s, n, MaxValues)
	}
	out := make([]uint16, n)
	for i := range out {
		out[i] = first + uint16(i)
	}
	return out, nil
}
