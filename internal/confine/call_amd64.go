package confine

import "golang.org/x/sys/unix"

// architectureCalls are system calls that only some architectures have.
func architectureCalls() []uint32 {
	return []uint32{unix.SYS_EPOLL_WAIT, unix.SYS_NEWFSTATAT, unix.SYS_RENAME, unix.SYS_ARCH_PRCTL}
}
