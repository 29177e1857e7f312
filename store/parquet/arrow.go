package parquet

import (
	"errors"
	"io"
	"reflect"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"dragnet/flow"
)

// ArrowWriter writes the same columns as an Arrow IPC file (Feather, version 2). It
// is not safe for concurrent use.
type ArrowWriter struct {
	out     *ipc.FileWriter
	builder *array.RecordBuilder
	rows    int
}

// NewArrowWriter writes to w, compressed with Zstandard.
func NewArrowWriter(w io.Writer) (*ArrowWriter, error) {
	schema := arrowSchema()
	out, err := ipc.NewFileWriter(w, ipc.WithSchema(schema), ipc.WithZstd())
	if err != nil {
		return nil, err
	}
	return &ArrowWriter{out: out, builder: array.NewRecordBuilder(memory.DefaultAllocator, schema)}, nil
}

// arrowSchema has a field for each of row's, named as in Parquet.
func arrowSchema() *arrow.Schema {
	var fields []arrow.Field
	for _, f := range reflect.VisibleFields(reflect.TypeFor[row]()) {
		name, options, _ := strings.Cut(f.Tag.Get("parquet"), ",")
		kind := f.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		field := arrow.Field{Name: name, Nullable: strings.Contains(options, "optional")}
		switch {
		case strings.Contains(options, "timestamp"):
			field.Type = arrow.FixedWidthTypes.Timestamp_us
		case kind.Kind() == reflect.Int64:
			field.Type = arrow.PrimitiveTypes.Int64
		case kind.Kind() == reflect.Int32:
			field.Type = arrow.PrimitiveTypes.Int32
		default:
			field.Type = arrow.BinaryTypes.String
		}
		fields = append(fields, field)
	}
	return arrow.NewSchema(fields, nil)
}

// Write adds a flow.
func (w *ArrowWriter) Write(f *flow.Flow) error {
	values := reflect.ValueOf(rowOf(f))
	for i, b := range w.builder.Fields() {
		v := values.Field(i)
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				b.AppendNull()
				continue
			}
			v = v.Elem()
		}
		switch b := b.(type) {
		case *array.TimestampBuilder:
			b.Append(arrow.Timestamp(v.Int()))
		case *array.Int64Builder:
			b.Append(v.Int())
		case *array.Int32Builder:
			b.Append(int32(v.Int()))
		case *array.StringBuilder:
			if v.Len() == 0 && w.builder.Schema().Field(i).Nullable {
				b.AppendNull()
				continue
			}
			b.Append(v.String())
		}
	}
	if w.rows++; w.rows < groupRows {
		return nil
	}
	return w.flush()
}

func (w *ArrowWriter) flush() error {
	batch := w.builder.NewRecordBatch()
	defer batch.Release()
	w.rows = 0
	return w.out.Write(batch)
}

// Close writes the end of the file, without which it cannot be read.
func (w *ArrowWriter) Close() error {
	defer w.builder.Release()
	return errors.Join(w.flush(), w.out.Close())
}
