//go:build linux

package ripcord

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"dragnet/internal/confine"
)

// Confine drops, for good, the privileges that the gateway needed to start: it
// becomes the configured user, and keeps CAP_NET_ADMIN and CAP_BPF, the files
// of its state and the system calls to read tables and answer messages.
func (g *Gateway) Confine() error {
	account, err := confine.Lookup(g.config.RunAs)
	if err != nil {
		return fmt.Errorf("run_as: %w", err)
	}
	err = filepath.WalkDir(g.config.State, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, account.UID, account.GID)
	})
	if err != nil {
		return fmt.Errorf("change the owner of the state: %w", err)
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
