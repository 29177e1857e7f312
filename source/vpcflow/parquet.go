package vpcflow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/parquet-go/parquet-go"

	"dragnet/flow"
	"dragnet/source/biflow"
)

// IsParquet reports whether prefix, the first bytes of a file, are of Parquet.
func IsParquet(prefix []byte) bool { return bytes.HasPrefix(prefix, []byte("PAR1")) }

// ErrColumns marks Parquet files of something else.
var ErrColumns = errors.New("it has not the columns of an AWS VPC flow log: srcaddr, dstaddr and start")

// maxGroup bounds what a group of rows may say to take, decompressed, in bytes.
const maxGroup = 1 << 30

// ReadParquet hands each record of a file to emit, until that fails; a record is
// valid during the call. What cannot be used is counted in cov, with name and
// number of row.
func ReadParquet(src *os.File, name string, cov *flow.Coverage, emit func(*biflow.Record) error) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	return readParquet(src, info.Size(), name, cov, emit)
}

func readParquet(src io.ReaderAt, size int64, name string, cov *flow.Coverage, emit func(*biflow.Record) error) (err error) {
	// The library does not expect all that a hostile file may hold.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: damaged Parquet: %v", name, p)
		}
	}()
	if err := checkFooter(src, size); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	file, err := parquet.OpenFile(src, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	l := layoutOfSchema(file.Schema())
	if l == nil {
		return fmt.Errorf("%s: %w", name, ErrColumns)
	}
	r := &rows{name: name, layout: l, cov: cov, emit: emit}
	for i, g := range file.RowGroups() {
		if n := file.Metadata().RowGroups[i].TotalByteSize; n > maxGroup || n < 0 {
			cov.Skip(fmt.Sprintf("%s: group %d of rows", name, i+1), "it says to have %d bytes; more than %d are not read", n, maxGroup)
			continue
		}
		if err := r.group(g); err != nil {
			return err
		}
	}
	return nil
}

// checkFooter checks the end of a file: the length of what describes it, for
// which the library makes room unseen, and the mark.
func checkFooter(src io.ReaderAt, size int64) error {
	const ends = 8
	var b [ends]byte
	if size < 2*ends {
		return errors.New("too short for Parquet")
	}
	if _, err := src.ReadAt(b[:], size-ends); err != nil {
		return err
	}
	if n := int64(binary.LittleEndian.Uint32(b[:])); string(b[4:]) != "PAR1" || n > size-2*ends {
		return errors.New("cut short or damaged at its end")
	}
	return nil
}

// layoutOfSchema finds which columns are which; nil if the needed ones are not
// there.
func layoutOfSchema(schema *parquet.Schema) layout {
	paths := schema.Columns()
	l := make(layout, len(paths))
	for i, path := range paths {
		if len(path) == 1 {
			l[i] = columnOf(path[0])
		}
	}
	if !l.has(srcAddr) && !l.has(pktSrcAddr) || !l.has(dstAddr) && !l.has(pktDstAddr) || !l.has(start) {
		return nil
	}
	return l
}

// rows reads one file.
type rows struct {
	name   string
	layout layout
	cov    *flow.Coverage
	emit   func(*biflow.Record) error
	number int64 // of the row, from 1
}

func (r *rows) group(g parquet.RowGroup) error {
	in := g.Rows()
	defer in.Close()
	buf := make([]parquet.Row, 256)
	for {
		n, err := in.ReadRows(buf)
		for _, row := range buf[:n] {
			r.number++
			if err := r.row(row); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			r.cov.Skip(fmt.Sprintf("%s: row %d", r.name, r.number+1), "%v: the rest of its group is left out", err)
			return nil
		case n == 0:
			return nil
		}
	}
}

func (r *rows) row(row parquet.Row) error {
	var v values
	for _, value := range row {
		at := value.Column()
		if at < 0 || at >= len(r.layout) || value.IsNull() {
			continue
		}
		v.setValue(r.layout[at], value)
	}
	var record biflow.Record
	ok, err := v.record(&record)
	switch {
	case err != nil:
		r.cov.Skip(fmt.Sprintf("%s: row %d", r.name, r.number), "%v", err)
	case ok:
		return r.emit(&record)
	}
	return nil
}

// setValue keeps a value of the kind that its column has in AWS's schema.
func (v *values) setValue(c column, value parquet.Value) {
	switch kind := value.Kind(); {
	case c == other:
	case c.isText():
		if kind != parquet.ByteArray {
			return
		}
		if s := string(value.ByteArray()); s != "-" {
			v.setText(c, s)
		}
	case kind == parquet.Int32:
		v.setNumber(c, uint64(max(0, value.Int32())))
	case kind == parquet.Int64:
		v.setNumber(c, uint64(max(0, value.Int64())))
	}
}
