// Package clickhouse keeps flows in a ClickHouse database shared by many nodes,
// for more flows than one machine holds. It has the functions of store/disk,
// and computes keys and counts on the server.
//
//	flows    one row a flow, a partition a UTC day, in order of five minutes
//	         and then of address
//	days     for each batch and day what it holds: the coverage of the store
//	commits  the batches that count, with the state of the logs they are from
//	claims   which log is being imported by whom
//
// # What counts
//
// ClickHouse has no transactions; only one insert of one block is atomic. So a
// row carries the writer that inserted it, a random number for each opening,
// and the number of its batch. A batch counts once its row is in commits, which
// is inserted last, together with the new states of the logs, as one block. A
// reader first asks for the last batch of each writer and then reads only rows
// up to those: it sees commits whole, and no rows left by a crash. Such rows
// stay hidden and are removed with their partition.
//
// # Once, and only once
//
// Imported logs are known by content to all nodes, as in store/disk. So that
// two nodes do not import one log at the same time, an importer claims it: it
// inserts its claim, then looks for others. A writer that finds another's claim
// withdraws. A claim lasts half a minute and is renewed; a writer that lost it
// while suspended notices before it commits. What remains is a process
// suspended for half a minute between that check and the commit.
//
// # What is not promised
//
// Claims and reading one's own writes hold on one server. On several replicas
// they hold if all nodes name the same one. A server before 22.3 does not flush
// what it acknowledged; a power failure may lose acknowledged data.
package clickhouse
