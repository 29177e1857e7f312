//go:build linux

package ripcord

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"dragnet/internal/confine"
)

// Confine drops, for good, the privileges that the gateways needed to start: it
// becomes the configured user, and keeps CAP_NET_ADMIN and CAP_BPF, its own files
// in the state and the system calls to read tables and answer messages.
func (g *Gateways) Confine() error {
	account, err := confine.Lookup(g.config.RunAs)
	if err != nil {
		return fmt.Errorf("run_as: %w", err)
	}
	if err := g.giveFiles(account.UID, account.GID); err != nil {
		return err
	}
	if err := confine.Drop(account, unix.CAP_NET_ADMIN, unix.CAP_BPF); err != nil {
		return err
	}
	err = confine.Filter(unix.SYS_BPF, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_SHUTDOWN,
		unix.SYS_OPENAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_FSYNC, unix.SYS_GETSOCKNAME, unix.SYS_UNAME, unix.SYS_GETDENTS64,
		unix.SYS_ACCEPT4, unix.SYS_SETSOCKOPT) // the last two: connections to 'admin'
	if errors.Is(err, confine.ErrArchitecture) {
		g.log.Warn("system calls are not filtered", "err", err)
		return nil
	}
	return err
}
