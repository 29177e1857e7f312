// Package enforcement turns findings of detectors and reports of guards at the
// edges into proposals, has the judge decide on them, and sends each guard the
// decisions that concern it. The path of a finding is in finding.go.
//
// Guards may be silent, lie, or report too often; none can make the judge exceed
// the ban budget, and a guard's report concerns its own sources only.
package enforcement

import (
	"fmt"
	"time"

	"dragnet/contain/sdn"
	"dragnet/daw"
	"dragnet/daw/faillog"
	"dragnet/daw/station"
	"dragnet/internal/conf"
)

// Configuration of the station and its agents.
type Configuration struct {
	// Agents are the guards that may report, with the S and P that they watch.
	Agents []Agent `yaml:"agents"`
	// Standing is the standing decision to propose, under which guards may hold
	// sources back on their own.
	Standing StandingPolicy `yaml:"standing"`
	// Station says when a rise of offenders or failures is a worm.
	Station station.Configuration `yaml:"station"`
	// Days is n: a block is proposed for a source that is at its limit on n days
	// in a row.
	Days int `yaml:"days"`
	// AlarmDays is n during an alarm.
	AlarmDays int `yaml:"alarm_days"`
	// Faillog receives the logs of firewalls about dropped packets.
	Faillog faillog.Configuration `yaml:"faillog"`
	// Switches are OpenFlow switches at which decisions take effect, in addition to
	// guards. Settings that are left out are those of 'dragnet switch apply'.
	Switches []sdn.Configuration `yaml:"switches"`
	// Every is the interval at which proposals are judged and policies updated.
	Every time.Duration `yaml:"every"`
}

// Agent is a guard at an edge.
type Agent struct {
	// Name is that of its enrolment ('dragnet agent token --name NAME').
	Name string `yaml:"name"`
	// Scope is S and P.
	Scope daw.Scope `yaml:"scope"`
}

// StandingPolicy is a standing decision to propose.
type StandingPolicy struct {
	// Most bounds the addresses that all agents together may hold back or block
	// under it at a time; 0 proposes no standing decision.
	Most int `yaml:"most"`
	// For is how long it lasts; it is proposed again when it expires.
	For time.Duration `yaml:"for"`
	// Why is the reason shown to those who approve it and those affected.
	Why string `yaml:"why"`
}

// DefaultConfiguration accepts no reports, since it names no agents.
func DefaultConfiguration() Configuration {
	return Configuration{
		Agents: []Agent{}, Standing: StandingPolicy{For: 7 * 24 * time.Hour, Why: "hold back sources whose connections keep failing"},
		Station: station.DefaultConfiguration(), Days: 7, AlarmDays: 2, Switches: []sdn.Configuration{}, Every: time.Second,
	}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	seen := map[string]bool{}
	for i, a := range c.Agents {
		key := fmt.Sprintf("agents[%d]", i)
		p.Check(a.Name != "" && !seen[a.Name], key+".name", "is empty or used twice; each agent needs its own")
		seen[a.Name] = true
		p.Section(key+".scope", a.Scope.Validate())
	}
	s := &c.Standing
	p.Check(s.Most == 0 || s.Most >= len(c.Agents), "standing.most", "is %d; want at least one address for each of the %d agents, or 0 for none", s.Most, len(c.Agents))
	p.Check(s.Most >= 0, "standing.most", "is %d; want at least 0", s.Most)
	p.Check(s.Most <= 0 || s.For >= time.Minute, "standing.for", "is %v; want at least 1m", s.For)
	p.Check(s.Most <= 0 || s.Why != "", "standing.why", "is empty; say why, for those who are affected")
	p.Check(c.Days >= 1 && c.Days <= 200, "days", "is %d; want 1 to 200", c.Days)
	p.Check(c.AlarmDays >= 1 && c.AlarmDays <= 200, "alarm_days", "is %d; want 1 to 200", c.AlarmDays)
	p.Check(c.Every >= 100*time.Millisecond && c.Every <= time.Minute, "every", "is %v; want 100ms to 1m", c.Every)
	for i, w := range c.Switches {
		w = w.WithDefaults()
		p.Section(fmt.Sprintf("switches[%d]", i), w.Validate())
	}
	p.Section("station", c.Station.Validate())
	p.Section("faillog", c.Faillog.Validate())
	return p.Join()
}
