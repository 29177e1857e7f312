package daw

import (
	"fmt"
	"math"
	"time"

	"dragnet/internal/conf"
)

// Parameters are set by a management station. Those published carry the symbol
// of Tang 2006, section 2.3.
type Parameters struct {
	// Lambda is the highest lasting failure rate of an address, per second.
	Lambda float64 `yaml:"lambda"`
	// Beta is the weight of the old rate against the new measurement, 0..1.
	Beta float64 `yaml:"beta"`
	// Bucket is the largest burst of failures, at most Omega/2.
	Bucket float64 `yaml:"bucket"`
	// Omega is the number of failures an address may have in a day.
	Omega int `yaml:"omega"`
	// Weekly bounds the failures of an address in 7 days; 0 sets no bound.
	Weekly int `yaml:"weekly"`
	// Monthly bounds them in 30 days.
	Monthly int `yaml:"monthly"`
	// Network64 is how many times Lambda, Bucket and Omega an IPv6 /64 may use
	// in total: its hosts can use any of 2^64 addresses.
	Network64 int `yaml:"network64"`
	// Network56 is the same for a /56, which is often delegated to a customer.
	Network56 int `yaml:"network56"`
	// Network48 is the same for a /48, the largest that usually is.
	Network48 int `yaml:"network48"`
	// Phi is the number of failures the customer network may have in a day
	// before the spatial limit starts, and again after that; 0 disables it, as
	// on links to neighbour ISPs.
	Phi int `yaml:"phi"`
	// Tau is the count up to which the spatial limit spares an address.
	Tau int `yaml:"tau"`
	// Days is n: after that many days at the limit in a row, a source is
	// proposed for blocking.
	Days int `yaml:"days"`
	// FirstBlock is T0; the k-th repetition lasts T0*e^k, at most BlockMemory.
	FirstBlock time.Duration `yaml:"first_block"`
	// BlockMemory is how long a block is kept in the history after its end.
	BlockMemory time.Duration `yaml:"block_memory"`

	// Recent is the length of the list of recently failed addresses (RFAL).
	Recent int `yaml:"recent"`
	// Entries is the size of the hash table H; A/Entries addresses share one.
	Entries int `yaml:"entries"`
	// Records bounds the records of single addresses, and again of /64s.
	Records int `yaml:"records"`
	// Requests bounds the requests kept to tell real replies from forged ones;
	// 0 relies on counting alone.
	Requests int `yaml:"requests"`
	// Match is how long a request may wait for its reply.
	Match time.Duration `yaml:"match"`
	// Silence is how long a request may be without an answer before that is a
	// failure; 0 counts answers only, as the paper does. It needs an edge that
	// sees the replies to its requests.
	Silence time.Duration `yaml:"silence"`
	// Waiting bounds the requests that are watched for silence.
	Waiting int `yaml:"waiting"`
	// Answered is the length of the list of services that answered a host of
	// the customer network this day or the day before. Requests to them pass
	// whatever the limits say.
	Answered int `yaml:"answered"`
	// Induced is the span in which failures of one source to one /24 (/48 for
	// IPv6) count once: a web page can make its visitor fail.
	Induced time.Duration `yaml:"induced"`
	// Grace is how many failures a day are forgiven this way, so that a scanner
	// does not profit.
	Grace int `yaml:"grace"`
	// Midnight is when a day starts, after 00:00 UTC.
	Midnight time.Duration `yaml:"midnight"`
	// Seed keys the hash functions; choose it at random, so that an attacker
	// cannot target an entry of a table.
	Seed uint64 `yaml:"-"`
}

// DefaultParameters are the published ones (section 2.4), and our choice where
// none is published.
func DefaultParameters() Parameters {
	return Parameters{
		Lambda: 1, Beta: 0.5, Bucket: 60, Omega: 300, Network64: 4, Network56: 8, Network48: 16, Phi: 3000, Tau: 50, Days: 7,
		FirstBlock: time.Hour, BlockMemory: 30 * day,
		Recent: 1000, Entries: 1 << 16, Records: 1 << 20, Requests: 1 << 20, Match: 45 * time.Second,
		Silence: 10 * time.Second, Waiting: 1 << 16, Answered: 1 << 14,
		Induced: time.Second, Grace: 30,
	}
}

const day = 24 * time.Hour

// maxTable bounds every table an operator can configure.
const maxTable = 1 << 26

// Validate reports all invalid parameters, and warns of valid combinations that
// are probably a mistake.
func (p *Parameters) Validate() (warnings []string, err error) {
	var problems conf.Problems
	for _, c := range []struct {
		ok        bool
		key, want string
	}{
		{p.Lambda > 0 && !math.IsInf(p.Lambda, 0), "lambda", "a positive number of failures per second"},
		{p.Beta >= 0 && p.Beta <= 1, "beta", "0 to 1"},
		{p.Omega >= 2 && p.Omega <= maxTable, "omega", "at least 2 failures a day"},
		{p.Bucket >= 1 && p.Bucket <= float64(p.Omega)/2, "bucket", "1 to omega/2 failures, or a source could exceed omega"},
		{p.Weekly >= 0, "weekly", "at least 0; 0 sets no bound"},
		{p.Monthly >= 0, "monthly", "at least 0; 0 sets no bound"},
		{p.Network64 >= 1, "network64", "at least 1"},
		{p.Network56 >= p.Network64, "network56", "at least network64"},
		{p.Network48 >= p.Network56 && p.Network48 <= 1<<10, "network48", "network56 to 1024"},
		{p.Phi >= 0 && p.Phi <= maxTable, "phi", "at least 0; 0 switches the spatial limit off"},
		{p.Tau >= 0, "tau", "at least 0"},
		{p.Days >= 1 && p.Days <= 200, "days", "1 to 200"},
		{p.FirstBlock > 0, "first_block", "a positive duration"},
		{p.BlockMemory >= p.FirstBlock, "block_memory", "at least first_block"},
		{p.Recent >= 1 && p.Recent <= 1<<20, "recent", "1 to 1048576 addresses"},
		{p.Entries >= 1 && p.Entries <= maxTable, "entries", "1 to 67108864"},
		{p.Records >= 1 && p.Records <= 1<<25, "records", "1 to 33554432"},
		{p.Requests >= 0 && p.Requests <= maxTable, "requests", "0 to 67108864"},
		{p.Match > 0 && p.Match <= time.Hour, "match", "above 0 and at most 1h"},
		{p.Silence >= 0 && p.Silence <= p.Match, "silence", "0 to match"},
		{p.Waiting >= 0 && p.Waiting <= maxTable, "waiting", "0 to 67108864"},
		{p.Answered >= 0 && p.Answered <= 1<<20, "answered", "0 to 1048576 services"},
		{p.Induced >= 0 && p.Induced <= time.Hour, "induced", "0 to 1h"},
		{p.Grace >= 0 && p.Grace <= math.MaxUint16, "grace", "0 to 65535 failures a day"},
		{p.Midnight >= 0 && p.Midnight < day, "midnight", "0 to 24h"},
	} {
		problems.Check(c.ok, c.key, "want %s", c.want)
	}
	if err := problems.Join(); err != nil {
		return nil, err
	}
	if p.Phi > 0 && p.Phi < p.Omega {
		warnings = append(warnings, fmt.Sprintf("phi %d is below omega %d: one host can use up what the whole network may", p.Phi, p.Omega))
	}
	if p.Weekly > 7*p.Omega {
		warnings = append(warnings, fmt.Sprintf("weekly %d never binds: omega %d allows %d in 7 days", p.Weekly, p.Omega, 7*p.Omega))
	}
	if p.Monthly > 30*p.Omega {
		warnings = append(warnings, fmt.Sprintf("monthly %d never binds: omega %d allows %d in 30 days", p.Monthly, p.Omega, 30*p.Omega))
	}
	if float64(p.Omega) > p.Lambda*day.Seconds() {
		warnings = append(warnings, fmt.Sprintf("omega %d never binds: lambda %g allows fewer in a day", p.Omega, p.Lambda))
	}
	return warnings, nil
}

// Split shares the limits evenly among the edges of a customer network with
// several: whichever edge a source uses, it stays within the total.
func (p Parameters) Split(edges int) Parameters {
	if edges > 1 {
		p.Lambda /= float64(edges)
		p.Omega /= edges
		p.Weekly = divideUp(p.Weekly, edges)
		p.Monthly = divideUp(p.Monthly, edges)
		p.Phi = divideUp(p.Phi, edges)
		p.Bucket = min(p.Bucket, float64(p.Omega)/2)
	}
	return p
}

// divideUp keeps a value that is set from becoming 0, which would mean "no
// bound".
func divideUp(n, parts int) int {
	if n == 0 {
		return 0
	}
	return max(1, n/parts)
}
