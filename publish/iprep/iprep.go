// Package iprep writes what is published for Suricata: IP reputation, a dataset,
// and rules that use them.
package iprep

import (
	"fmt"
	"io"
	"strconv"

	"dragnet/publish"
)

// Files writes suricata/categories.txt, suricata/reputation.list,
// suricata/hosts.lst and suricata/dragnet.rules, with hosts of at least a
// confidence.
func Files(least int) publish.Files {
	return func(v *publish.View, to publish.Out) error {
		for _, f := range []struct {
			path  string
			write func(io.Writer, *publish.View, int) error
		}{{"suricata/categories.txt", writeCategories}, {"suricata/reputation.list", Reputation}, {"suricata/hosts.lst", Dataset}, {"suricata/dragnet.rules", writeRules}} {
			out, err := to.Create(f.path)
			if err != nil {
				return err
			}
			if err := f.write(out, v, least); err != nil {
				return err
			}
		}
		return nil
	}
}

const category = 1

func writeCategories(w io.Writer, _ *publish.View, _ int) error {
	_, err := fmt.Fprintf(w, "%d,Dragnet,Hosts that several organisations saw attack together\n", category)
	return err
}

// Reputation writes an address, a category and a score on each line. Scores are
// 1 to 127, ours is the confidence.
func Reputation(w io.Writer, v *publish.View, least int) (err error) {
	var b []byte
	v.EachHost(v.Time, func(rows []publish.Row) bool {
		if best := publish.Best(rows); best.Confidence >= least {
			b = strconv.AppendInt(append(best.Host.AppendTo(b[:0]), ','), category, 10)
			b = append(strconv.AppendInt(append(b, ','), int64(max(best.Confidence, 1)), 10), '\n')
			_, err = w.Write(b)
		}
		return err == nil
	})
	return err
}

// Dataset writes an address on each line, for a dataset of type ip (Suricata 7).
func Dataset(w io.Writer, v *publish.View, least int) (err error) {
	var b []byte
	v.EachHost(v.Time, func(rows []publish.Row) bool {
		if publish.Best(rows).Confidence >= least {
			b = append(rows[0].Host.AppendTo(b[:0]), '\n')
			_, err = w.Write(b)
		}
		return err == nil
	})
	return err
}

// writeRules writes rules with numbers of the range for local use.
func writeRules(w io.Writer, _ *publish.View, least int) error {
	_, err := fmt.Fprintf(w, `alert ip any any -> any any (msg:"dragnet: from a host of a published group"; iprep:src,Dragnet,>,%d; classtype:misc-attack; sid:1999001; rev:1;)
alert ip any any -> any any (msg:"dragnet: to a host of a published group"; iprep:dst,Dragnet,>,%d; classtype:misc-attack; sid:1999002; rev:1;)
# With the dataset instead of the reputation list (Suricata 7):
#alert ip any any -> any any (msg:"dragnet: from a host of a published group"; ip.src; dataset:isset,dragnet,type ip,load hosts.lst; classtype:misc-attack; sid:1999003; rev:1;)
`, max(least, 1)-1, max(least, 1)-1)
	return err
}
