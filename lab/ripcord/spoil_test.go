package ripcord_test

import (
	"net"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"dragnet/contain/ripcord/bpf"
	"dragnet/contain/ripcord/tables"
	"dragnet/internal/netlab"
)

// spoil has an interface lose one packet in 100 that come in, and let one in 30
// wait behind those that came with it.
func spoil(n *netlab.Node, dev string) error {
	return attachIngress(n, dev, func(index int) asm.Instructions {
		const skbMark = 8 // offset in struct __sk_buff
		return asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadMem(asm.R7, asm.R6, skbMark, asm.Word),
			asm.JEq.Imm(asm.R7, 77, "pass"), // has waited
			asm.FnGetPrandomU32.Call(),
			asm.Mod.Imm32(asm.R0, 300),
			asm.JLT.Imm(asm.R0, 3, "drop"),
			asm.JLT.Imm(asm.R0, 13, "wait"),
			asm.Mov.Imm(asm.R0, -1).WithSymbol("pass"), // TCX_NEXT
			asm.Return(),
			asm.Mov.Imm(asm.R0, 2).WithSymbol("drop"),
			asm.Return(),
			asm.StoreImm(asm.R6, skbMark, 77, asm.Word).WithSymbol("wait"),
			asm.Mov.Imm(asm.R1, int32(index)),
			asm.Mov.Imm(asm.R2, unix.BPF_F_INGRESS),
			asm.FnRedirect.Call(),
			asm.Return(),
		}
	})
}

// attachIngress attaches the program that program makes to what comes in to an interface
// of a node, whose index it is given.
func attachIngress(n *netlab.Node, dev string, program func(index int) asm.Instructions) error {
	return n.Do(func() error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: program(i.Index)})
		if err != nil {
			return err
		}
		defer prog.Close()
		l, err := link.AttachTCX(link.TCXOptions{Interface: i.Index, Program: prog, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return err
		}
		netlinks = append(netlinks, l) // ends with the interface
		return nil
	})
}

// netlinks keeps links from being closed by the collector.
var netlinks []link.Link

// backdate moves all connections into the past.
func backdate(pins string, by time.Duration) error {
	w, err := bpf.Open(pins)
	if err != nil {
		return err
	}
	defer w.Close()
	type row struct {
		ends tables.Ends
		conn tables.Conn
	}
	var all []row
	w.Conns(func(e tables.Ends, c tables.Conn) bool { all = append(all, row{e, c}); return true })
	for _, r := range all {
		back := uint32(by.Milliseconds())
		r.conn.LastSeen, r.conn.Sent, r.conn.Until = r.conn.LastSeen-back, r.conn.Sent-back, r.conn.Until-back
		if err := w.PutConn(r.ends, r.conn); err != nil {
			return err
		}
	}
	return nil
}
