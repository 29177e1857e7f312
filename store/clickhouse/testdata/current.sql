CREATE TABLE IF NOT EXISTS flows (
 day UInt16, writer UInt64, batch UInt64,
 start_time Int64 CODEC(Delta, ZSTD(1)), duration Int64 CODEC(T64, ZSTD(1)),
 src_hi UInt64 CODEC(ZSTD(1)), src_lo UInt64 CODEC(ZSTD(1)), dst_hi UInt64 CODEC(ZSTD(1)), dst_lo UInt64 CODEC(ZSTD(1)),
 src_port UInt16, dst_port UInt16, proto UInt8, state UInt8,
 tcp_flags_orig UInt8, tcp_flags_resp UInt8, icmp_error UInt16, known UInt16,
 sampling_rate UInt32, observation_domain_id UInt32, isn_orig UInt32, isn_resp UInt32, history LowCardinality(String),
 bytes_orig UInt64 CODEC(T64, ZSTD(1)), bytes_resp UInt64 CODEC(T64, ZSTD(1)), pkts_orig UInt64 CODEC(T64, ZSTD(1)), pkts_resp UInt64 CODEC(T64, ZSTD(1)),
 ip_bytes_orig UInt64 CODEC(T64, ZSTD(1)), ip_bytes_resp UInt64 CODEC(T64, ZSTD(1)), missed_bytes UInt64 CODEC(T64, ZSTD(1)), exporter_hi UInt64, exporter_lo UInt64
) ENGINE = MergeTree PARTITION BY day
ORDER BY (intDiv(start_time, toInt64(300000000000)), src_hi, src_lo, dst_hi, dst_lo, start_time) SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS days (
 day UInt16, writer UInt64, batch UInt64, flows UInt64, first_start Int64, last_start Int64, sampling_rate UInt32
) ENGINE = MergeTree PARTITION BY day ORDER BY (day, writer, batch) SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS commits (
 id String, writer UInt64, batch UInt64,
 name String, read_bytes Int64, head String, tail String, line Int64, header String, whole UInt8,
 flows UInt64, skipped UInt64, imported Int64
) ENGINE = ReplacingMergeTree(batch) ORDER BY (id, writer) SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS claims (
 day UInt16, name String, writer UInt64, turn UInt64, held UInt8, until_time UInt32
) ENGINE = ReplacingMergeTree(turn) PARTITION BY day ORDER BY (name, writer) SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE VIEW IF NOT EXISTS connections AS SELECT
 toDateTime(intDiv(start_time, toInt64(1000000000))) AS start, start_time, duration,
 if((src_hi = 0 AND bitShiftRight(src_lo, 32) = 65535), IPv4NumToString(toUInt32(bitAnd(src_lo, 4294967295))), IPv6NumToString(toFixedString(unhex(concat(substring(concat('0000000000000000', hex(src_hi)), length(hex(src_hi)) + 1), substring(concat('0000000000000000', hex(src_lo)), length(hex(src_lo)) + 1))), 16))) AS src_addr, src_port, if((dst_hi = 0 AND bitShiftRight(dst_lo, 32) = 65535), IPv4NumToString(toUInt32(bitAnd(dst_lo, 4294967295))), IPv6NumToString(toFixedString(unhex(concat(substring(concat('0000000000000000', hex(dst_hi)), length(hex(dst_hi)) + 1), substring(concat('0000000000000000', hex(dst_lo)), length(hex(dst_lo)) + 1))), 16))) AS dst_addr, dst_port, proto,
 arrayElement(['-', 'S0', 'S1', 'SF', 'REJ', 'S2', 'S3', 'RSTO', 'RSTR', 'RSTOS0', 'RSTRH', 'SH', 'SHR', 'OTH'], state + 1) AS conn_state,
 history, bytes_orig, bytes_resp, pkts_orig, pkts_resp, ip_bytes_orig, ip_bytes_resp
FROM flows ALL INNER JOIN (SELECT writer, max(batch) AS committed FROM commits WHERE id = '' GROUP BY writer) AS c USING (writer)
WHERE batch <= committed;
