package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"dragnet/flow"
	"dragnet/source/hubble"
	linelog "dragnet/source/lines"
	"dragnet/source/nginx"
	"dragnet/source/squid"
	"dragnet/source/suricata"
	"dragnet/source/vpcflow"
	"dragnet/source/zeek"
)

// What is recognised, in words for errors.
const (
	notRecognised = "is not a log, flow file or capture that dragnet reads: Zeek's conn log (TSV or JSON), Suricata's eve.json, Squid's access.log, nginx's with the log_format of the manual, " +
		"Hubble's flows, AWS VPC flow logs (text or Parquet), nfdump's files, pcap, pcapng"
	noLogs = "no log, flow file or capture that dragnet reads"
)

// formats are the logs with one flow per line, besides Zeek's.
var formats = []*linelog.Format{&suricata.Format, &hubble.Format, &vpcflow.Format, &nginx.Format, &squid.Format}

// formatOf returns the format of a file that begins with prefix, or nil. A log that
// was emptied while a line was being written begins with the rest of that line.
func formatOf(prefix []byte) *linelog.Format {
	for _, f := range formats {
		if f.Is(prefix) {
			return f
		}
	}
	if _, rest, cut := bytes.Cut(prefix, []byte{'\n'}); cut && !zeek.Is(prefix) {
		for _, f := range formats {
			if f.Is(rest) {
				return f
			}
		}
	}
	return nil
}

// reader reads a log that may grow.
type reader interface {
	Next() ([]flow.Flow, error)
	Coverage() flow.Coverage
	Mark() zeek.Mark
	Resume(zeek.Mark)
}

func newReader(src io.Reader, path string, prefix []byte) reader {
	if f := formatOf(prefix); f != nil {
		return linelog.NewReader(src, path, f)
	}
	return zeek.NewReader(src, path, flow.AllColumns)
}

// scanLines reads one file and passes the flows that begin within w to fn.
func scanLines(ctx context.Context, path string, w flow.Window, fn func([]flow.Flow) error) (flow.Coverage, error) {
	s, err := openStream(path)
	if err != nil {
		return flow.Coverage{}, err
	}
	defer s.file.Close()
	prefix, err := s.readPrefix()
	if err != nil {
		return flow.Coverage{}, err
	}
	r := newReader(s, path, prefix)
	for {
		batch, err := r.Next()
		var broken *fs.PathError
		switch {
		case err == io.EOF:
			return r.Coverage(), nil
		case errors.As(err, &broken):
			return r.Coverage(), fmt.Errorf("read %s: %w", path, err)
		case err != nil:
			cov := r.Coverage()
			cov.Skip(path, "%v: nothing from here on could be read", err)
			return cov, nil
		case ctx.Err() != nil:
			return r.Coverage(), ctx.Err()
		}
		n := 0
		for _, f := range batch {
			if w.Contains(f.Start) {
				batch[n] = f
				n++
			}
		}
		if n > 0 {
			if err := fn(batch[:n]); err != nil {
				return r.Coverage(), err
			}
		}
	}
}
