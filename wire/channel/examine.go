package channel

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"dragnet/internal/doctor"
	"dragnet/wire/enrol"
)

// Examine checks whether an agent is enrolled for role, and has a valid
// certificate, at now. It does not ask the node.
func Examine(c Configuration, role string, now time.Time) []doctor.Check {
	enrolled := doctor.Check{Name: "enrolment", Fatal: true}
	folder, err := enrol.Open(c.State)
	if err != nil {
		enrolled.Err = err
		if errors.Is(err, enrol.ErrNotEnrolled) {
			enrolled.Err = fmt.Errorf("%w: dragnet-agent enrol %s https://NODE:9121 -", err, role)
		}
		return []doctor.Check{enrolled}
	}
	m := folder.Member()
	_, until := folder.Validity()
	switch {
	case m.Role != role:
		enrolled.Err = fmt.Errorf("%s is enrolled as %s; enrol each role in a separate folder", c.State, m.Role)
	case !now.Before(until):
		enrolled.Err = fmt.Errorf("the certificate expired on %s: enrol again", until.UTC().Format(time.DateOnly))
	}
	enrolled.Good = fmt.Sprintf("%s at %s, until %s", m.Name, m.Node, until.UTC().Format(time.DateOnly))
	return []doctor.Check{enrolled, doctor.CheckFolder("spool", filepath.Join(c.State, "spool"))}
}
