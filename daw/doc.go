// Package daw holds the records and limits of DAW, the distributed anti-worm
// architecture: what an agent at the edge of an ISP counts for the customer
// network behind it, and which connection requests it forwards (Tang 2006,
// chapter 2).
//
// It is pure: no clock, no packets, no goroutines. An Edge takes requests,
// successes and failure replies, each with its time, and returns a verdict. It
// is not safe for concurrent use.
//
// Guarantees, for T the round trip inside the ISP and r the rate of a source's
// requests:
//
//   - a source's failures in a day stay within 2*Omega + r*T (theorem 2), and
//     within Omega + r*T on every day that starts with a record of it;
//   - the failures of a customer network's m limited sources stay within
//     2*Phi + m*(Tau + 1 + r*T). The published bound (theorem 3) leaves out
//     m*Tau: no source is limited before Tau failures;
//   - a source that only makes successful connections is never hindered.
//
// The first two hold for failures that are counted: those for a destination in
// the list of recent failures are free, up to Grace a day are forgiven as
// induced by a web page, and a full table of records forgets small counters.
// Nothing is guaranteed about worms inside one customer network, or about a
// customer with another ISP.
//
// The limits act on failures, not on requests, so a hit list of hosts that
// answer is not slowed at all.
//
// Where this differs from the text, because the text does not work or leaves it
// open: the bucket holds at most Omega/2 and starts empty, else theorem 2
// breaks; a rate is measured from the day's first failure on, not from when the
// record was made or across midnight, and forgotten on a day with fewer than
// 100; a source stays limited until midnight once its rate was above Lambda; a
// day counts towards blocking when the counter reached Omega-1 or the
// spread-out quota dropped a request, because the counter itself can reach
// Omega only at midnight; and also when the spatial limit dropped a request,
// because under it the hosts of a large network share so little that none ever
// comes near Omega, and none would ever be blocked.
package daw
