package clickhouse

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// bucket is the span within which flows are ordered by address. A number above
// 32 bits is unsigned in SQL unless converted, and makes a quotient unsigned
// too.
const bucket = 300_000_000_000 // ns

// listMigrations returns the steps from an empty database to the current
// schema; a database stores how many it has applied. Each statement may run
// twice, if a migration was interrupted or two nodes start it at once.
// Migrations are never changed: testdata/ keeps the result of each.
func listMigrations(v release) [][]string {
	return [][]string{{flowsTable(v), daysTable(v), commitsTable(v), claimsTable(v)}, {connectionsView}}
}

// fillDialect replaces the words of text that depend on the server version.
// CODEC came with 19.1; LowCardinality was an experiment until 19.1; flushing
// with 22.3 (earlier versions had parts of it).
func fillDialect(v release, text string) string {
	words := []string{"TIME", "", "WIDE", "", "ADDRESS", "", "NAME", "String", "DURABLE", ""}
	if v.atLeast(22, 3) {
		words = []string{
			"TIME", " CODEC(Delta, ZSTD(1))", "WIDE", " CODEC(T64, ZSTD(1))", "ADDRESS", " CODEC(ZSTD(1))", "NAME", "LowCardinality(String)",
			"DURABLE", " SETTINGS fsync_after_insert = 1, fsync_part_directory = 1",
		}
	}
	for i := 0; i < len(words); i += 2 {
		words[i] = "<" + words[i] + ">"
	}
	return strings.NewReplacer(words...).Replace(text)
}

// flowsTable: an address is 128 bits in two columns, since keys are made of its
// parts; IPv4 is ::ffff:a.b.c.d (RFC 4291, section 2.5.5.2). Times are
// nanoseconds since 1970; a day is the number of the UTC day since then, cut to
// what UInt16 holds. Otherwise columns are named as flow.Flow's comments do.
func flowsTable(v release) string {
	return fillDialect(v, `CREATE TABLE IF NOT EXISTS $db.flows (
 day UInt16, writer UInt64, batch UInt64,
 start_time Int64<TIME>, duration Int64<WIDE>,
 src_hi UInt64<ADDRESS>, src_lo UInt64<ADDRESS>, dst_hi UInt64<ADDRESS>, dst_lo UInt64<ADDRESS>,
 src_port UInt16, dst_port UInt16, proto UInt8, state UInt8,
 tcp_flags_orig UInt8, tcp_flags_resp UInt8, icmp_error UInt16, known UInt16,
 sampling_rate UInt32, observation_domain_id UInt32, isn_orig UInt32, isn_resp UInt32, history <NAME>,
 bytes_orig UInt64<WIDE>, bytes_resp UInt64<WIDE>, pkts_orig UInt64<WIDE>, pkts_resp UInt64<WIDE>,
 ip_bytes_orig UInt64<WIDE>, ip_bytes_resp UInt64<WIDE>, missed_bytes UInt64<WIDE>, exporter_hi UInt64, exporter_lo UInt64
) ENGINE = MergeTree PARTITION BY day
ORDER BY (intDiv(start_time, toInt64(300000000000)), src_hi, src_lo, dst_hi, dst_lo, start_time)<DURABLE>`)
}

func daysTable(v release) string {
	return fillDialect(v, `CREATE TABLE IF NOT EXISTS $db.days (
 day UInt16, writer UInt64, batch UInt64, flows UInt64, first_start Int64, last_start Int64, sampling_rate UInt32
) ENGINE = MergeTree PARTITION BY day ORDER BY (day, writer, batch)<DURABLE>`)
}

// commitsTable: of each writer, the row without id with the greatest batch is
// the last commit; a row with id is the state of a log. Only valid rows are
// ever inserted, so older ones may be removed.
func commitsTable(v release) string {
	return fillDialect(v, `CREATE TABLE IF NOT EXISTS $db.commits (
 id String, writer UInt64, batch UInt64,
 name String, read_bytes Int64, head String, tail String, line Int64, header String, whole UInt8,
 flows UInt64, skipped UInt64, imported Int64
) ENGINE = ReplacingMergeTree(batch) ORDER BY (id, writer)<DURABLE>`)
}

// claimsTable: the row of a writer with the greatest turn counts, until the
// server's clock reaches until_time (s). It is held once its writer has found
// no other.
func claimsTable(v release) string {
	return fillDialect(v, `CREATE TABLE IF NOT EXISTS $db.claims (
 day UInt16, name String, writer UInt64, turn UInt64, held UInt8, until_time UInt32
) ENGINE = ReplacingMergeTree(turn) PARTITION BY day ORDER BY (name, writer)<DURABLE>`)
}

// connectionsView is for humans: the committed flows, with names.
var connectionsView = `CREATE VIEW IF NOT EXISTS $db.connections AS SELECT
 toDateTime(intDiv(start_time, toInt64(1000000000))) AS start, start_time, duration,
 ` + addressText("src") + ` AS src_addr, src_port, ` + addressText("dst") + ` AS dst_addr, dst_port, proto,
 arrayElement(['-', 'S0', 'S1', 'SF', 'REJ', 'S2', 'S3', 'RSTO', 'RSTR', 'RSTOS0', 'RSTRH', 'SH', 'SHR', 'OTH'], state + 1) AS conn_state,
 history, bytes_orig, bytes_resp, pkts_orig, pkts_resp, ip_bytes_orig, ip_bytes_resp
FROM $db.flows ALL INNER JOIN (SELECT writer, max(batch) AS committed FROM $db.commits WHERE id = '' GROUP BY writer) AS c USING (writer)
WHERE batch <= committed`

func addressText(end string) string {
	half := func(c string) string {
		return "substring(concat('0000000000000000', hex(" + c + ")), length(hex(" + c + ")) + 1)"
	}
	hi, lo := end+"_hi", end+"_lo"
	return "if(" + isIPv4(end) + ", IPv4NumToString(toUInt32(bitAnd(" + lo + ", 4294967295))), " +
		"IPv6NumToString(toFixedString(unhex(concat(" + half(hi) + ", " + half(lo) + ")), 16)))"
}

// isIPv4 is the condition that the address at an end, src or dst, is IPv4.
func isIPv4(end string) string {
	return fmt.Sprintf("(%s_hi = 0 AND bitShiftRight(%[1]s_lo, 32) = 65535)", end)
}

// schemaVersion is the number of migrations applied to the database; 0 if it is
// not a store.
func (s *Store) schemaVersion(ctx context.Context) (n uint32, err error) {
	var there uint64
	row := s.conn.QueryRow(ctx, s.qualify("SELECT count() FROM system.tables WHERE database = '$db' AND name = 'schema'"))
	if err := row.Scan(&there); err != nil || there == 0 {
		return 0, s.wrapError("look for a store", err)
	}
	err = s.eachRow(ctx, "look for a store", "SELECT max(version) FROM $db.schema", func(r driver.Rows) error { return r.Scan(&n) })
	if known := uint32(len(listMigrations(s.version))); err == nil && n > known {
		return n, fmt.Errorf("%s has schema %d, but this program supports up to %d; use the program that wrote it", s.address, n, known)
	}
	return n, err
}

// applyMigrations brings the database to the current schema.
func (s *Store) applyMigrations(ctx context.Context) error {
	var there uint64
	row := s.conn.QueryRow(ctx, s.qualify("SELECT count() FROM system.databases WHERE name = '$db'"))
	if err := row.Scan(&there); err != nil {
		return s.wrapError("look for the database", err)
	}
	var first []string
	if there == 0 {
		first = append(first, "CREATE DATABASE IF NOT EXISTS $db")
	}
	first = append(first, "CREATE TABLE IF NOT EXISTS $db.schema (version UInt32) ENGINE = MergeTree ORDER BY version")
	for _, text := range first {
		if err := s.execText(ctx, "migrate", text); err != nil {
			return err
		}
	}
	done, err := s.schemaVersion(ctx)
	if err != nil {
		return err
	}
	all := listMigrations(s.version)
	for i := int(done); i < len(all); i++ {
		for _, text := range all[i] {
			if err := s.execText(ctx, fmt.Sprintf("migrate to schema %d", i+1), text); err != nil {
				return err
			}
		}
		if err := s.insertBlock(ctx, "$db.schema (version)", []uint32{uint32(i + 1)}); err != nil {
			return err
		}
	}
	return nil
}
