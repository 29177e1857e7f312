//go:build linux && !amd64

package confine

import "golang.org/x/sys/unix"

// architectureCalls are system calls that only some architectures have.
func architectureCalls() []uint32 { return []uint32{unix.SYS_FSTATAT} }
