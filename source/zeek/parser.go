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
	return &parser{cols: cols, json: object{want: wantedColumns(cols)}, histories: interner{seed: maphash.MakeSeed()}}
}

// startChunk starts a chunk.
func (p *parser) startChunk(file int, c chunk) {
	p.file, p.c, p.at, p.line = file, c, 0, c.line-1
	if c.tooLong > 0 {
		p.lost.addLoss(file, c.tooLong, fault{why: tooLong})
	}
}

// fillBatch reads flows until batch is full or the chunk ends, and returns how many.
func (p *parser) fillBatch(batch []flow.Flow) int {
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
			p.lost.addLoss(p.file, p.line, fault{why: tooLong})
		case len(line) == 0:
		case line[0] == '#':
			p.c.head = p.c.head.withLine(line)
		default:
			if bad := p.parseLine(line, &r, &batch[n]); bad.why == fine {
				n++
			} else {
				p.lost.addLoss(p.file, p.line, bad)
			}
		}
	}
	return n
}

// parseLine reads one line into f. A log without #fields is JSON or unusable.
func (p *parser) parseLine(line []byte, r *row, f *flow.Flow) fault {
	h := p.c.head
	switch {
	case h.refused != "":
		return fault{why: other, text: h.refused}
	case h.fields == "":
		if bad := p.json.parseLine(line, r); bad.why != fine {
			return bad
		}
	case p.c.cut:
		// Its last value may be half of one: 12 of 1234.
		return fault{why: cutOff}
	default:
		if p.tsv.head != h {
			*r = row{}
			p.tsv.useHeader(h, p.cols)
		}
		if bad := p.tsv.splitLine(line, r); bad.why != fine {
			return bad
		}
	}
	if col := r.toFlow(f, p.cols, &p.histories); col != noColumn {
		return fault{why: badValue, col: col, value: r.valueOf(col)}
	}
	return fault{}
}
