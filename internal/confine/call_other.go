//go:build linux && !amd64

package confine

import "golang.org/x/sys/unix"

// architectureCalls are those whose number or name is this machine's own.
func architectureCalls() []uint32 { return []uint32{unix.SYS_FSTATAT} }
