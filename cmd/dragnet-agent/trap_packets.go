package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dragnet/flow"
	"dragnet/internal/cli"
	"dragnet/packet"
	"dragnet/packet/capture"
	"dragnet/trap"
	"dragnet/trap/recording"
	"dragnet/trap/vault"
)

func newTrapPackets() *cobra.Command {
	var out, session string
	cmd := &cobra.Command{
		Use: "packets", Short: "Decrypt recorded packets into a capture",
		Long: `Packets writes what was on the honeypots' link, both ways, as a pcap file: all of it,
or with --session the packets of one session that 'trap list -o json' shows.`,
		Example: "  dragnet-agent trap packets --out all.pcap\n  dragnet-agent trap packets --session 4ZJ7KXQ2AAAAAAAAAAAAAAAAAA --out one.pcap",
		Args:    cobra.NoArgs,
	}
	dir, readKey := captureFlags(cmd)
	cmd.Flags().StringVar(&out, "out", "", "file to write, which must not exist")
	cmd.Flags().StringVar(&session, "session", "", "only packets of this session, by its id")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if out == "" {
			return cli.Usage(errors.New("name a file with --out"))
		}
		keys, err := readKey()
		if err != nil {
			return err
		}
		wanted := func(*capture.Record) bool { return true }
		if session != "" {
			if wanted, err = packetsOf(*dir, session); err != nil {
				return err
			}
		}
		f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		var w *capture.Writer
		n := 0
		cut, err := recording.Each(filepath.Join(*dir, trap.PacketsFolder), keys, func(r *capture.Record) (err error) {
			if !wanted(r) {
				return nil
			}
			if w == nil {
				if w, err = capture.NewWriter(f, r.Link); err != nil {
					return err
				}
			}
			n++
			return w.Write(r)
		})
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		for _, c := range cut {
			fmt.Fprintln(cmd.ErrOrStderr(), "warning: not whole:", c)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "wrote %d packets\n", n)
		if n == 0 {
			return errors.Join(fmt.Errorf("no packet of that kind is recorded in %s", *dir), os.Remove(out))
		}
		return nil
	}
	return cmd
}

// packetsOf selects the packets of a session: between its ends, from a second before
// it to a second behind.
func packetsOf(dir, id string) (func(*capture.Record) bool, error) {
	var found *vault.Line
	err := vault.Sessions(dir, func(l *vault.Line) error {
		if l.ID == id {
			found = l
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, cli.Hint(fmt.Errorf("no session %q", id), "'dragnet-agent trap list -o json' shows their ids")
	}
	const around = flow.Time(1e9)
	var p packet.Packet
	return func(r *capture.Record) bool {
		if r.Time < found.Start-around || r.Time > found.End+around || p.Decode(r.Link, r.Data, r.Wire) != nil || p.Proto != found.Proto {
			return false
		}
		from, to := netip.AddrPortFrom(p.Src, p.SrcPort), netip.AddrPortFrom(p.Dst, p.DstPort)
		return from == found.Client && to == found.Server || from == found.Server && to == found.Client
	}, nil
}
