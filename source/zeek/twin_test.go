package zeek

import (
	"bytes"
	"encoding/json"
	"io"
	"math/big"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"dragnet/flow"
)

// twin reads a whole log the slow way, line by line with the standard library:
// the oracle of Reader. It returns the flows and the lines that are useless.
// Header lines are understood by the same code; they have separate tests.
func twin(log []byte, cols flow.Columns) (flows []flow.Flow, skipped []int64) {
	head := newHeader()
	for i, line := range bytes.SplitAfter(log, []byte("\n")) {
		text, whole := bytes.CutSuffix(line, []byte("\n"))
		long := len(text) > maxLine
		if !whole && !long {
			break
		}
		text = bytes.TrimSuffix(text, []byte("\r"))
		if !long && len(text) == 0 {
			continue
		}
		if !long && text[0] == '#' {
			head = head.withLine(text)
			continue
		}
		var values map[column]string
		if !long && head.refused == "" {
			if head.fields == "" {
				values = twinJSON(text)
			} else {
				values = twinTSV(text, head)
			}
		}
		if f, ok := twinFlow(values, cols); ok {
			flows = append(flows, f)
		} else if whole {
			skipped = append(skipped, int64(i)+1)
		}
	}
	return flows, skipped
}

func twinTSV(line []byte, h *header) map[column]string {
	names := strings.Split(h.fields, string([]byte{h.separator}))
	values := bytes.Split(line, []byte{h.separator})
	if len(names) != len(values) {
		return nil
	}
	m := make(map[column]string)
	for i := len(names) - 1; i >= 0; i-- { // the first of a name wins
		c := columnNamed([]byte(names[i]))
		switch v := string(values[i]); {
		case v == h.unset:
			delete(m, c)
		case c == colHistory && v == h.empty:
			m[c] = ""
		default:
			m[c] = v
		}
	}
	return m
}

// twinJSON walks the library's tokens, to know the order of keys.
func twinJSON(line []byte) map[column]string {
	if !json.Valid(line) {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber()
	m := make(map[column]string)
	if t, _ := dec.Token(); t != json.Delim('{') || !twinMembers(dec, m, columnNamed, 1) {
		return nil
	}
	_, state := m[colState]
	path, ok := m[colPath]
	if ok && path != "conn" || !ok && !state {
		return nil
	}
	return m
}

func twinMembers(dec *json.Decoder, m map[column]string, named func([]byte) column, depth int) bool {
	for dec.More() {
		key, _ := dec.Token()
		name := key.(string)
		value, _ := dec.Token()
		var text string
		switch v := value.(type) {
		case json.Delim:
			if depth == 1 && name == "id" && v == '{' {
				if !twinMembers(dec, m, endpointNamed, depth+1) {
					return false
				}
				continue
			}
			if !twinSkip(dec, depth+1) {
				return false
			}
			text = v.String() // no column is a list or an object
		case string:
			text = v
		case json.Number:
			text = v.String()
		case bool:
			text = strconv.FormatBool(v)
		}
		c := named([]byte(name))
		if value == nil {
			delete(m, c)
		} else {
			m[c] = text
		}
	}
	_, err := dec.Token()
	return err == nil
}

func twinSkip(dec *json.Decoder, depth int) bool {
	top := depth - 1
	deepest := depth
	for depth > top {
		t, err := dec.Token()
		if err == io.EOF {
			return false
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
			deepest = max(deepest, depth)
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	return deepest <= maxDepth
}

var decimal = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?([eE][+-]?([0-9]{1,20}))?$`)

func twinSeconds(s string) (int64, bool) {
	m := decimal.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	if n, err := strconv.ParseUint(m[3], 10, 64); m[3] != "" && (err != nil || n > 400) {
		return 0, false
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return 0, false
	}
	r.Mul(r, big.NewRat(int64(time.Second), 1))
	n := new(big.Int).Quo(r.Num(), r.Denom())
	return n.Int64(), n.IsInt64()
}

func twinTime(s string) (flow.Time, bool) {
	const end = 4294967295 * int64(time.Second)
	nanos, ok := twinSeconds(s)
	if ok && nanos <= end {
		return flow.Time(nanos), true
	}
	if millis, err := strconv.ParseUint(s, 10, 64); err == nil && len(s) >= 12 && len(s) <= 20 && s[0] != '+' {
		return flow.Time(millis) * 1e6, millis <= uint64(end)/1e6
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	return flow.FromTime(t), err == nil && t.Unix() >= 0 && flow.FromTime(t) <= flow.Time(end)
}

func twinFlow(v map[column]string, cols flow.Columns) (f flow.Flow, ok bool) {
	ok = true
	must := func(good bool) { ok = ok && good }
	addr := func(c column) netip.Addr {
		a, err := netip.ParseAddr(v[c])
		must(err == nil)
		return a.WithZone("").Unmap()
	}
	number := func(c column, bits int) uint64 {
		n, err := strconv.ParseUint(v[c], 10, bits)
		must(err == nil && len(v[c]) <= 20)
		return n
	}
	count := func(c column) (n uint64) {
		if _, set := v[c]; set && cols&columns[c].group != 0 {
			n = number(c, 64)
		}
		return n
	}
	known := func(group flow.Columns, needs ...column) {
		for _, c := range needs {
			if _, set := v[c]; !set || !cols.Has(group) {
				return
			}
		}
		f.Known |= group
	}
	var good bool
	f.Start, good = twinTime(v[colTime])
	must(good)
	f.Orig, f.Resp = addr(colOrigAddr), addr(colRespAddr)
	f.OrigPort, f.RespPort = uint16(number(colOrigPort, 16)), uint16(number(colRespPort, 16))
	proto, set := v[colProto]
	_, numbered := v[colIPProto]
	switch {
	case (!set || proto == "unknown_transport") && numbered:
		f.Proto = flow.Proto(number(colIPProto, 8))
	case proto == "unknown_transport":
	case proto == "icmp" && f.Orig.Is6():
		f.Proto = flow.ICMPv6
	default:
		p, err := flow.ParseProto(proto)
		must(err == nil)
		f.Proto = p
	}
	if state, set := v[colState]; set {
		f.State, good = flow.ParseState([]byte(state))
		must(good)
	}
	if d, set := v[colDuration]; set && cols.Has(flow.Lasting) {
		nanos, good := twinSeconds(d)
		must(good)
		f.Duration = time.Duration(nanos)
	}
	if cols.Has(flow.History) {
		f.History = v[colHistory]
	}
	f.OrigBytes, f.RespBytes, f.MissedBytes = count(colOrigBytes), count(colRespBytes), count(colMissedBytes)
	f.OrigPkts, f.OrigIPBytes = count(colOrigPkts), count(colOrigIPBytes)
	f.RespPkts, f.RespIPBytes = count(colRespPkts), count(colRespIPBytes)
	known(flow.Lasting, colDuration)
	known(flow.History, colHistory)
	known(flow.Payload, colOrigBytes, colRespBytes)
	known(flow.Counts, colOrigPkts, colOrigIPBytes, colRespPkts, colRespIPBytes)
	return f, ok
}
