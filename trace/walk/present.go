//go:build linux

package walk

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// Present is one process that runs.
type Present struct {
	Process
	Name           string
	UID            uint32
	Terminal       string
	Login, Session *uint32 // of the audit system; nil if unset
}

// ListProcesses lists the processes that run.
func ListProcesses() ([]Present, error) {
	pids, err := readNumbers("/proc")
	if err != nil {
		return nil, err
	}
	var out []Present
	for _, pid := range pids {
		if p, ok := readPresent(int32(pid)); ok {
			out = append(out, p)
		}
	}
	return out, nil
}

func readPresent(pid int32) (Present, bool) {
	dir, err := openProcess(pid)
	if err != nil {
		return Present{}, false
	}
	defer closeFD(dir)
	st, err := readStat(dir)
	if err != nil {
		return Present{}, false
	}
	p := Present{Process: Process{PID: pid, Parent: st.Parent, Start: st.Start}, Name: st.Name, Terminal: terminalName(st.Terminal)}
	p.UID, _ = readUIDs(dir)
	p.Login, p.Session = parseAuditID(readText(dir, "loginuid")), parseAuditID(readText(dir, "sessionid"))
	return p, true
}

// ReadAccounts reads which user owns which subordinate user numbers (subuid(5)).
// The function it returns is the account to which a user number is charged: a
// user with thousands of numbers is still one. Numbers above lastSystemUser and
// beyond any range are themselves.
func ReadAccounts(path string) func(uid uint32) uint32 {
	type span struct{ from, count, owner uint32 }
	var spans []span
	names := map[string]uint32{}
	for uid, u := range readPasswd("/etc/passwd") {
		names[u.name] = uid
	}
	if f, err := os.Open(path); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			parts := strings.Split(s.Text(), ":")
			if len(parts) != 3 {
				continue
			}
			owner, known := names[parts[0]]
			if n, err := strconv.ParseUint(parts[0], 10, 32); err == nil && !known {
				owner, known = uint32(n), true
			}
			from, err1 := strconv.ParseUint(parts[1], 10, 32)
			count, err2 := strconv.ParseUint(parts[2], 10, 32)
			if known && err1 == nil && err2 == nil {
				spans = append(spans, span{uint32(from), uint32(count), owner})
			}
		}
	}
	return func(uid uint32) uint32 {
		for _, s := range spans {
			if uid >= s.from && uid-s.from < s.count {
				return s.owner
			}
		}
		return uid
	}
}
