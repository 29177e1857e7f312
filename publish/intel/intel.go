// Package intel writes what is published for Zeek's intelligence framework.
package intel

import (
	"io"
	"strconv"

	"dragnet/publish"
)

// Files writes zeek/intel.dat with hosts of at least a confidence: read it with
// 'redef Intel::read_files += {...}'. Zeek forgets no item when its line goes;
// set Intel::item_expiration so that items do.
func Files(least int, objections string) publish.Files {
	return func(v *publish.View, to publish.Out) error {
		out, err := to.Create("zeek/intel.dat")
		if err != nil {
			return err
		}
		return Write(out, v, least, objections)
	}
}

// Write writes one item for each host; columns are separated by one tab, and an
// absent value is "-".
func Write(w io.Writer, v *publish.View, least int, objections string) error {
	if objections == "" {
		objections = "-"
	}
	_, err := io.WriteString(w, "#fields\tindicator\tindicator_type\tmeta.source\tmeta.desc\tmeta.url\n")
	var b []byte
	v.EachHost(v.Time, func(rows []publish.Row) bool {
		if best := publish.Best(rows); err == nil && best.Confidence >= least {
			b = append(best.Host.AppendTo(b[:0]), "\tIntel::ADDR\tdragnet\t"...)
			b = append(best.AppendReason(b), ", confidence "...)
			b = append(strconv.AppendInt(b, int64(best.Confidence), 10), '\t')
			b = append(append(b, objections...), '\n')
			_, err = w.Write(b)
		}
		return err == nil
	})
	return err
}
