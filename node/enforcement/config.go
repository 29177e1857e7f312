// Package enforcement is where a node acts: it hears the agents at the edges,
// lets the station say whom to propose, has the judge decide, and hands each
// agent the decisions that concern it.
//
// Agents may be silent, lie, or ask too often; none can make the judge exceed
// the ban budget, and what one reports touches nobody beyond its own sources.
package enforcement

import (
	"errors"
	"fmt"
	"time"

	"dragnet/daw"
	"dragnet/daw/faillog"
	"dragnet/daw/station"
)

// Configuration of the station and its agents.
type Configuration struct {
	// Socket is the Unix socket at which guards on this machine report; empty
	// listens nowhere.
	Socket string `yaml:"socket"`
	// Agents are the edges that may report, with the S and P they watch.
	Agents []Agent `yaml:"agents"`
	// Standing is what the judge is asked for so that agents may hold sources
	// back by themselves.
	Standing Standing `yaml:"standing"`
	// Alarm says when a rise of offenders or failures is a worm.
	Alarm station.Configuration `yaml:"alarm"`
	// Days is n: after so many days at its limit in a row a source is proposed
	// for a block.
	Days int `yaml:"days"`
	// AlarmDays takes its place during an alarm.
	AlarmDays int `yaml:"alarm_days"`
	// Faillog is where firewalls log what they dropped.
	Faillog faillog.Configuration `yaml:"faillog"`
	// Every is how often the station looks at reports and decisions.
	Every time.Duration `yaml:"every"`
}

// Agent is a guard at an edge.
type Agent struct {
	// Name is what it calls itself.
	Name string `yaml:"name"`
	// Scope is S and P.
	Scope daw.Scope `yaml:"scope"`
}

// Standing is a standing decision to propose.
type Standing struct {
	// Most is how many addresses all agents together may hold back or block
	// under it at a time; 0 proposes none.
	Most int `yaml:"most"`
	// For is how long it lasts; then it is proposed anew.
	For time.Duration `yaml:"for"`
	// Why is for those who approve and those who are affected.
	Why string `yaml:"why"`
}

// DefaultConfiguration hears nobody.
func DefaultConfiguration() Configuration {
	return Configuration{
		Agents: []Agent{}, Standing: Standing{For: 7 * 24 * time.Hour, Why: "hold back sources whose connections keep failing"},
		Alarm: station.DefaultConfiguration(), Days: 7, AlarmDays: 2, Every: time.Second,
	}
}

// Validate reports the first setting that makes no sense.
func (c *Configuration) Validate() error {
	seen := map[string]bool{}
	for i, a := range c.Agents {
		if a.Name == "" || seen[a.Name] {
			return fmt.Errorf("station.agents[%d].name: each agent needs one of its own", i)
		}
		seen[a.Name] = true
		if err := a.Scope.Validate(); err != nil {
			return fmt.Errorf("station.agents[%d]: %w", i, err)
		}
	}
	switch {
	case c.Socket != "" && len(c.Agents) == 0:
		return errors.New("station.agents is empty: name the guards that may report")
	case c.Standing.Most < 0 || c.Standing.Most > 0 && c.Standing.Most < len(c.Agents):
		return fmt.Errorf("station.standing.most: want at least one address for each of the %d agents, or 0 for none", len(c.Agents))
	case c.Standing.Most > 0 && (c.Standing.For < time.Minute || c.Standing.Why == ""):
		return errors.New("station.standing: for must be at least 1m, and why must say something")
	case c.Days < 1 || c.Days > 200 || c.AlarmDays < 1 || c.AlarmDays > 200:
		return errors.New("station.days and station.alarm_days must lie between 1 and 200")
	case c.Every < 100*time.Millisecond || c.Every > time.Minute:
		return errors.New("station.every: want 100ms to 1m")
	}
	return c.Alarm.Validate()
}
