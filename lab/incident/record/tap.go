package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"dragnet/internal/netlab"
)

// snapshot is how many bytes of each packet are kept: all headers, the whole
// of most DNS messages and TFTP requests, little of the rest.
const snapshot = 128

// tap is a running capture at one organisation's edge.
type tap struct {
	organisation string
	path         string
	program      *netlab.Process
}

// openTaps starts a capture per organisation and waits until all are recording.
func openTaps(ctx context.Context, c participants, net *network, dir string) ([]tap, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	var taps []tap
	for _, o := range c.organisations {
		t := tap{organisation: o.name, path: filepath.Join(dir, o.name+".pcap")}
		var err error
		t.program, err = net.edges[o.name].Start("dumpcap", "-P", "-i", lanDev, "-s", strconv.Itoa(snapshot), "-w", t.path)
		if err != nil {
			return nil, err
		}
		taps = append(taps, t)
	}
	for _, t := range taps {
		if err := t.program.Await(ctx, "File: "); err != nil {
			return nil, err
		}
	}
	return taps, nil
}

// counts is dumpcap's last line: packets received and dropped.
var counts = regexp.MustCompile(`received/dropped on interface '.*': (\d+)/(\d+)`)

// stopAndPack ends the capture and compresses it. A capture with losses is an
// error.
func (t tap) stopAndPack(packed string) error {
	if err := t.program.Stop(); err != nil {
		return err
	}
	found := counts.FindStringSubmatch(t.program.Output())
	if found == nil || found[1] == "0" || found[2] != "0" {
		return fmt.Errorf("tap of %s lost packets or saw none: %s", t.organisation, t.program.Output())
	}
	return compressFile(t.path, packed)
}

// compressFile compresses a file, leaving out name and time so that equal captures
// give equal files.
func compressFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	z, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, in); err != nil {
		return err
	}
	return z.Close()
}
