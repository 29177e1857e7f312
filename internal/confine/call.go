//go:build linux

package confine

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

func setCapabilities(set *[2]unix.CapUserData) error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	err := callOnAllThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(set)), 0)
	runtime.KeepAlive(set)
	if err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}

// architectures are seccomp's numbers of architectures (linux/audit.h).
var architectures = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// ErrArchitecture means that there is no filter for this architecture.
var ErrArchitecture = errors.New("system call filters are not supported on this architecture")

// CheckFilter returns ErrArchitecture where Filter has nothing to install.
func CheckFilter() error {
	if _, ok := architectures[runtime.GOARCH]; !ok {
		return ErrArchitecture
	}
	return nil
}

// Filter refuses, with EPERM, all system calls but the given ones and those that
// Go's runtime needs.
func Filter(calls ...uint32) error {
	arch, ok := architectures[runtime.GOARCH]
	if !ok {
		return ErrArchitecture
	}
	const numberAt, archAt = 0, 4 // in struct seccomp_data
	stmt := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	load, equal, ret := uint16(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS), uint16(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K), uint16(unix.BPF_RET|unix.BPF_K)
	program := []unix.SockFilter{
		stmt(load, archAt), {Code: equal, Jt: 1, K: arch}, stmt(ret, unix.SECCOMP_RET_KILL_PROCESS), stmt(load, numberAt),
	}
	for _, n := range slices.Concat(runtimeCalls(), architectureCalls(), calls) {
		program = append(program, unix.SockFilter{Code: equal, Jf: 1, K: n}, stmt(ret, unix.SECCOMP_RET_ALLOW))
	}
	program = append(program, stmt(ret, unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)))
	if err := callOnAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	f := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&f)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("set system call filter: %w", errno)
	}
	return nil
}

// runtimeCalls are the system calls of Go's scheduler, memory, timers, signals and
// poller, and of reading, writing and closing what is open.
func runtimeCalls() []uint32 {
	return []uint32{
		unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE, unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_NANOSLEEP,
		unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MPROTECT, unix.SYS_MINCORE, unix.SYS_PRCTL,
		unix.SYS_CLONE, unix.SYS_CLONE3, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_TGKILL,
		unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
		unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_EVENTFD2, unix.SYS_PIPE2,
		unix.SYS_FCNTL, unix.SYS_FSTAT, unix.SYS_LSEEK, unix.SYS_GETRANDOM, unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE,
		unix.SYS_SETITIMER, unix.SYS_PPOLL,
	}
}
