package main

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"dragnet/lab/incident"
)

const (
	// span is the length of the recording.
	span = 60 * time.Second
	// Contacts follow each other at contactEvery from contactsFrom on; infected
	// hosts fetch code fetchAfter later, plus or minus jitter.
	contactsFrom = 10 * time.Second
	contactEvery = 1300 * time.Millisecond
	fetchAfter   = 8 * time.Second
	jitter       = 4 * time.Second
	// early is when files are fetched without a contact before.
	early = 4 * time.Second
	// pause is the mean time between a host's ordinary acts.
	pause = 5 * time.Second
	// quiet is the end of the recording, when nothing new starts.
	quiet = 2 * time.Second
	// seed makes every recording do the same things, at the same offsets.
	seed = 1433
)

// verb is what a host does in one act.
type verb string

const (
	visit   verb = "visit"   // read a page of a web server, named or by address
	login   verb = "login"   // run one command over SSH
	ping    verb = "ping"    // two echo requests
	contact verb = "contact" // connect to tcp/1433 and send some bytes
	refused verb = "refused" // the same, and be refused
	fetch   verb = "fetch"   // fetch a file by TFTP
)

// act is one thing one host does.
type act struct {
	at   time.Duration // since the start of the recording
	who  string        // a host's name
	does verb
	to   string // a name or an address
}

// planActs returns all acts, in order of time.
func planActs(c participants) []act {
	random := rand.New(rand.NewPCG(seed, 0))
	acts := append(incidentActs(c, random), ordinaryActs(c, random)...)
	slices.SortStableFunc(acts, func(a, b act) int { return int(a.at - b.at) })
	return acts
}

// incidentActs is the staged incident and its look-alikes. The attacker goes
// through all organisations' hosts in random order.
func incidentActs(c participants, random *rand.Rand) []act {
	var hosts []host
	for _, o := range c.organisations {
		for _, h := range o.hosts {
			if h.part != incident.Bystander {
				hosts = append(hosts, h)
			}
		}
	}
	random.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	var acts []act
	for i, h := range hosts {
		reached := contactsFrom + time.Duration(i)*contactEvery
		later := reached + fetchAfter + time.Duration(random.Int64N(int64(jitter)))
		attacked := func(does verb) act { return act{reached, c.attacker.name, does, h.outside.String()} }
		fetches := func(at time.Duration, from host) act { return act{at, h.name, fetch, from.addr.String()} }
		switch h.part {
		case incident.Infected:
			acts = append(acts, attacked(contact), fetches(later, c.codeServer))
		case incident.ContactedOnly:
			acts = append(acts, attacked(contact))
		case incident.FetchedOnly:
			acts = append(acts, fetches(later, c.codeServer))
		case incident.FetchedFirst:
			acts = append(acts, fetches(early, c.codeServer), attacked(contact))
		case incident.Refused:
			acts = append(acts, attacked(refused), fetches(later, c.codeServer))
		case incident.OtherServer:
			acts = append(acts, attacked(contact), fetches(later, c.fileServer))
		case incident.OtherClient:
			acts = append(acts, act{reached, c.partner.name, contact, h.outside.String()}, fetches(later, c.codeServer))
		case incident.OtherPort:
			reads := act{reached, c.attacker.name, visit, h.outside.String() + "/" + pagePath(0)}
			acts = append(acts, reads, fetches(later, c.codeServer))
		}
	}
	return acts
}

// ordinaryActs is the ordinary traffic of all hosts, across and within
// organisations.
func ordinaryActs(c participants, random *rand.Rand) []act {
	var everybody []string
	for _, o := range c.organisations {
		for _, h := range o.hosts {
			everybody = append(everybody, h.name)
		}
	}
	for _, h := range []host{c.attacker, c.codeServer, c.partner, c.fileServer} {
		everybody = append(everybody, h.name)
	}
	zones := c.listZones()
	var acts []act
	for _, who := range everybody {
		next := func() time.Duration { return time.Duration(random.Int64N(int64(2 * pause))) }
		for at := next(); at < span-quiet; at += next() {
			to := zones[random.IntN(len(zones))].webName()
			switch dice := random.IntN(100); {
			case dice < 70:
				acts = append(acts, act{at, who, visit, to + "/" + pagePath(random.IntN(pages))})
			case dice < 78:
				acts = append(acts, act{at, who, login, to})
			default:
				acts = append(acts, act{at, who, ping, to})
			}
		}
	}
	return acts
}

// pages is how many pages every web server has.
const pages = 4

// pagePath is the path of a page; the first is short, each other twice as long as
// the one before.
func pagePath(i int) string { return "page" + strconv.Itoa(i) + ".html" }
