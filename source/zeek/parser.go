package zeek

import (
	"bytes"
	"hash/maphash"

	"dragnet/flow"
)

// parser turns chunks into flows. Each worker has its own.
type parser struct {
	cols      flow.Columns
	tsv       tsv
	json      object
	histories interner
	lost      losses

	file int // which file the chunk is of
	c    chunk
	at   int   // bytes of c.data done
	line int64 // lines before them
}

func newParser(cols flow.Columns) *parser {
	return &parser{cols: cols, json: object{want: wanted(cols)}, histories: interner{seed: maphash.MakeSeed()}}
}

// start begins a chunk.
func (p *parser) start(file int, c chunk) {
	p.file, p.c, p.at, p.line = file, c, 0, c.line-1
	if c.tooLong > 0 {
		p.lost.add(file, c.tooLong, fault{why: tooLong})
	}
}

// fill reads flows until batch is full or the chunk ends, and returns how many.
func (p *parser) fill(batch []flow.Flow) int {
	var r row
	n := 0
	for n < len(batch) && p.at < len(p.c.data) {
		line := p.c.data[p.at:]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			line = line[:end]
			p.at++
		}
		p.at += len(line)
		p.line++
		long := len(line) > maxLine
		switch line = trimLine(line); {
		case long:
			p.lost.add(p.file, p.line, fault{why: tooLong})
		case len(line) == 0:
		case line[0] == '#':
			p.c.head = p.c.head.with(line)
		default:
			if bad := p.parse(line, &r, &batch[n]); bad.why == fine {
				n++
			} else {
				p.lost.add(p.file, p.line, bad)
			}
		}
	}
	return n
}

// parse reads one line into f. A log without #fields is JSON or useless.
func (p *parser) parse(line []byte, r *row, f *flow.Flow) fault {
	h := p.c.head
	switch {
	case h.refused != "":
		return fault{why: other, text: h.refused}
	case h.fields == "":
		if bad := p.json.parse(line, r); bad.why != fine {
			return bad
		}
	case p.c.cut:
		// Its last value may be half of one: 12 of 1234.
		return fault{why: cutOff}
	default:
		if p.tsv.head != h {
			*r = row{}
			p.tsv.under(h, p.cols)
		}
		if bad := p.tsv.split(line, r); bad.why != fine {
			return bad
		}
	}
	if col := r.flow(f, p.cols, &p.histories); col != noColumn {
		return fault{why: badValue, col: col, value: r.value(col)}
	}
	return fault{}
}
