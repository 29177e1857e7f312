package lines

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dragnet/flow"
)

// numbers is a format of decimal numbers: each is the port of a flow, "-" is a
// line without one.
var numbers = Format{Name: "numbers", Whole: func(line []byte) bool { return bytes.HasSuffix(line, []byte(";")) }, Parse: func(line []byte, f *flow.Flow) (bool, error) {
	if string(line) == "-" {
		return false, nil
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(string(line), ";"), 10, 16)
	if err != nil {
		return false, errors.New("not a number")
	}
	f.OrigPort, f.Orig, f.Start = uint16(n), netip.IPv4Unspecified(), flow.Time(n)
	return true, nil
}}

// growing is a log of which the reader sees what is in text, a few bytes at a
// time.
type growing struct {
	text string
	step func() int
	err  error
}

func (g *growing) Read(b []byte) (int, error) {
	if g.text == "" {
		if g.err != nil {
			return 0, g.err
		}
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), max(1, g.step()))], g.text)
	g.text = g.text[n:]
	return n, nil
}

func ports(t interface{ Fatal(...any) }, r *Reader) (all []uint16) {
	for {
		batch, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil || len(batch) == 0 || len(batch) > batchSize {
			t.Fatal(len(batch), err)
		}
		for _, f := range batch {
			all = append(all, f.OrigPort)
		}
	}
}

// TestALogInPieces: however a log is cut into reads, appended to and resumed, the
// same flows come once, and the same lines are skipped.
func TestALogInPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		var want []uint16
		skipped, total := uint64(0), int64(rapid.IntRange(0, 60).Draw(t, "lines"))
		for n := range total {
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				text.WriteString("-\n")
			case 1:
				text.WriteString("x\r\n")
				skipped++
			case 2:
				text.WriteString(" \n")
			default:
				fmt.Fprintf(&text, "%d\n", n)
				want = append(want, uint16(n))
			}
		}
		whole := text.String()
		cut := rapid.IntRange(0, len(whole)).Draw(t, "cut")
		step := func() int { return rapid.IntRange(1, 20).Draw(t, "step") }
		src := &growing{text: whole[:cut], step: step}
		r := NewReader(src, "log", &numbers)
		got := ports(t, r)
		lost := r.Coverage().Skipped
		if rapid.Bool().Draw(t, "restart") {
			at := r.Mark()
			r = NewReader(&growing{text: whole[at.Offset:], step: step}, "log", &numbers)
			r.Resume(at)
		} else {
			lost = 0
			src.text = whole[cut:]
		}
		got = append(got, ports(t, r)...)
		if m := r.Mark(); !slices.Equal(got, want) || lost+r.Coverage().Skipped != skipped || m.Offset != int64(len(whole)) || m.Line != total {
			t.Fatalf("%v, want %v; %d skipped, want %d; %+v of %d bytes, %d lines", got, want, lost+r.Coverage().Skipped, skipped, m, len(whole), total)
		}
	})
}

func everything() int { return 1 << 20 }

func TestLongLinesCostNoMemory(t *testing.T) {
	long := strings.Repeat("9", 5<<20)
	for name, c := range map[string]struct {
		text    string
		want    []uint16
		skipped uint64
		line    int64
	}{
		"in the middle":    {"1\n" + long + "\n2\n", []uint16{1, 2}, 1, 3},
		"the first":        {long + "\n2\n", []uint16{2}, 1, 2},
		"two":              {long + "\n" + long + "\n2\n", []uint16{2}, 2, 3},
		"the last, open":   {"1\n" + long, []uint16{1}, 0, 1},
		"exactly the most": {strings.Repeat(" ", maxLine-1) + "7\n8\n", []uint16{7, 8}, 0, 2},
		"one more":         {strings.Repeat(" ", maxLine) + "7\n8\n", []uint16{8}, 1, 2},
	} {
		r := NewReader(&growing{text: c.text, step: everything}, "log", &numbers)
		got := ports(t, r)
		if !slices.Equal(got, c.want) || r.Coverage().Skipped != c.skipped || r.Mark().Line != c.line || cap(r.buf) > 4*maxLine {
			t.Errorf("%s: %v, %+v, %+v, %d bytes kept", name, got, r.Coverage(), r.Mark(), cap(r.buf))
		}
	}
}

// TestTheLastLine: one without newline waits, unless the format can tell that it
// is whole.
func TestTheLastLine(t *testing.T) {
	for text, want := range map[string][]uint16{
		"1\n2":          {1},
		"1\n2;":         {1, 2},
		"1;":            {1},
		"":              nil,
		"\n\n":          nil,
		"1\n\x00\n2\n3": {1, 2},
	} {
		r := NewReader(&growing{text: text, step: everything}, "log", &numbers)
		if got := ports(t, r); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// TestAnErrorComesAfterWhatWasReadBefore: what precedes damage counts.
func TestAnErrorComesAfterWhatWasReadBefore(t *testing.T) {
	broken := errors.New("broken")
	r := NewReader(&growing{text: "1\n2\n3", step: everything, err: broken}, "log", &numbers)
	batch, err := r.Next()
	if len(batch) != 2 || err != nil {
		t.Fatal(batch, err)
	}
	if _, err := r.Next(); !errors.Is(err, broken) {
		t.Error(err)
	}
	if r.Coverage().Flows != 2 || r.Mark().Offset != 4 {
		t.Errorf("%+v, %+v", r.Coverage(), r.Mark())
	}
}

func TestProblemsNameTheLine(t *testing.T) {
	r := NewReader(&growing{text: "1\nx\n2\n" + strings.Repeat("y\n", 100), step: everything}, "some.log", &numbers)
	ports(t, r)
	c := r.Coverage()
	if c.Skipped != 101 || len(c.Problems) > 16 || c.Problems[0].String() != "some.log:2: not a number" {
		t.Errorf("%+v", c)
	}
	c.Problems[0].Place = "changed"
	if r.Coverage().Problems[0].Place != "some.log:2" {
		t.Error("Coverage gives away its own memory")
	}
}
