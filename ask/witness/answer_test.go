package witness

import (
	"slices"
	"testing"

	"dragnet/dossier"
)

// TestParts: large groups are split by hosts and by events, in order, and
// nothing is lost.
func TestParts(t *testing.T) {
	many := make([]dossier.FlowEvent, eventsPerAnswer)
	host := func(events int) dossier.StatedHost {
		return dossier.StatedHost{Clues: []dossier.StatedClue{{Events: many[:events/2]}, {Events: many[:events-events/2]}}}
	}
	small := slices.Repeat([]dossier.StatedHost{host(2)}, 2*hostsPerAnswer+1)
	for name, c := range map[string]struct {
		hosts []dossier.StatedHost
		want  []int
	}{
		"few":        {small[:3], []int{3}},
		"many":       {small, []int{hostsPerAnswer, hostsPerAnswer, 1}},
		"exactly":    {small[:hostsPerAnswer], []int{hostsPerAnswer}},
		"busy":       {[]dossier.StatedHost{host(eventsPerAnswer / 2), host(eventsPerAnswer / 2), host(2)}, []int{2, 1}},
		"one is all": {[]dossier.StatedHost{host(2), host(2 * eventsPerAnswer), host(2)}, []int{1, 1, 1}},
	} {
		var got []int
		for _, part := range splitHosts(c.hosts) {
			got = append(got, len(part))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: parts of %v hosts, want %v", name, got, c.want)
		}
	}
}
