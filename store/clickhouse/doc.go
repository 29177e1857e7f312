// Package clickhouse keeps flows in a ClickHouse database that many nodes
// share, for those who have more of them than one machine holds. It offers what
// store/disk offers, and computes keys and counts where the flows are.
//
//	flows    one row a flow, a partition a UTC day, in order of five minutes
//	         and then of address
//	days     for each batch and day what it holds: the coverage of the store
//	commits  the batches that count, with the state of the logs they are from
//	claims   which log is being imported by whom
//
// # What counts
//
// ClickHouse has no transactions; what it does whole or not at all is one insert
// of one block. So a row carries the writer that inserted it, a random number
// for each opening, and the number of its batch. A batch counts when its row
// stands in commits, which is inserted last, together with the new states of
// the logs, as one block. A reader first asks for the last batch of each writer
// and then reads only rows up to those: it sees commits whole, and nothing of
// what a crash left. Such remains stay hidden and go with their partition.
//
// # Once, and only once
//
// What was imported is known by content to all nodes, as in store/disk. So that
// two nodes do not import one log at the same moment, an importer claims it: it
// inserts its claim, then looks for others. Whoever finds another's claim
// withdraws. A claim lasts half a minute and is renewed; whoever lost it while
// it stood still learns so before it commits. What remains is a process that is
// stopped for half a minute between that look and the commit.
//
// # What is not promised
//
// Claims and reading one's own writes hold on one server. On several replicas
// they hold if all nodes name the same one. A server before 22.3 does not flush
// what it acknowledged; if it loses power, so may be what it had acknowledged.
package clickhouse
