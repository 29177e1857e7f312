//go:build linux

// Package confine drops the privileges that a process no longer needs: its user,
// its capabilities, most system calls. It acts on all threads, which needs a
// program built without cgo.
package confine

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Account is a user to change to.
type Account struct{ UID, GID int }

// Lookup finds an account by name.
func Lookup(name string) (Account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return Account{}, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return Account{}, fmt.Errorf("user %s: %w", name, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return Account{}, fmt.Errorf("user %s: %w", name, err)
	}
	return Account{uid, gid}, nil
}

// Drop changes to an account and keeps only the given capabilities (unix.CAP_*),
// permanently: no process that it starts can have more.
func Drop(a Account, keep ...int) error {
	var set [2]unix.CapUserData
	kept := map[int]bool{}
	for _, c := range keep {
		set[c/32].Effective |= 1 << (c % 32)
		set[c/32].Permitted |= 1 << (c % 32)
		kept[c] = true
	}
	for c := 0; c <= unix.CAP_LAST_CAP; c++ {
		if !kept[c] {
			if err := callOnAllThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0); err != nil && err != unix.EINVAL {
				return fmt.Errorf("drop capability %d: %w", c, err)
			}
		}
	}
	if err := callOnAllThreads(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("leave groups: %w", err)
	}
	if err := syscall.Setgid(a.GID); err != nil {
		return fmt.Errorf("become group %d: %w", a.GID, err)
	}
	if err := syscall.Setuid(a.UID); err != nil {
		return fmt.Errorf("become user %d: %w", a.UID, err)
	}
	return setCapabilities(&set)
}

// callOnAllThreads makes a system call on every thread.
func callOnAllThreads(call, a, b, c uintptr) error {
	switch _, _, errno := syscall.AllThreadsSyscall(call, a, b, c); errno {
	case 0:
	case unix.ENOTSUP: // what AllThreadsSyscall answers in such a program
		return errors.New("this program was built with cgo, which keeps threads out of reach: build it with CGO_ENABLED=0")
	default:
		return errno
	}
	return nil
}
