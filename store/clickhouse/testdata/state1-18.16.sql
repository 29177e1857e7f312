CREATE TABLE claims ( day UInt16,  name String,  writer UInt64,  turn UInt64,  held UInt8,  until_time UInt32) ENGINE = ReplacingMergeTree(turn) PARTITION BY day ORDER BY (name, writer) SETTINGS index_granularity = 8192;

CREATE TABLE commits ( id String,  writer UInt64,  batch UInt64,  name String,  read_bytes Int64,  head String,  tail String,  line Int64,  header String,  whole UInt8,  flows UInt64,  skipped UInt64,  imported Int64) ENGINE = ReplacingMergeTree(batch) ORDER BY (id, writer) SETTINGS index_granularity = 8192;

CREATE TABLE days ( day UInt16,  writer UInt64,  batch UInt64,  flows UInt64,  first_start Int64,  last_start Int64,  sampling_rate UInt32) ENGINE = MergeTree PARTITION BY day ORDER BY (day, writer, batch) SETTINGS index_granularity = 8192;

CREATE TABLE flows ( day UInt16,  writer UInt64,  batch UInt64,  start_time Int64,  duration Int64,  src_hi UInt64,  src_lo UInt64,  dst_hi UInt64,  dst_lo UInt64,  src_port UInt16,  dst_port UInt16,  proto UInt8,  state UInt8,  tcp_flags_orig UInt8,  tcp_flags_resp UInt8,  icmp_error UInt16,  known UInt16,  sampling_rate UInt32,  observation_domain_id UInt32,  isn_orig UInt32,  isn_resp UInt32,  history String,  bytes_orig UInt64,  bytes_resp UInt64,  pkts_orig UInt64,  pkts_resp UInt64,  ip_bytes_orig UInt64,  ip_bytes_resp UInt64,  missed_bytes UInt64,  exporter_hi UInt64,  exporter_lo UInt64) ENGINE = MergeTree PARTITION BY day ORDER BY (intDiv(start_time, toInt64(300000000000)), src_hi, src_lo, dst_hi, dst_lo, start_time) SETTINGS index_granularity = 8192;

CREATE TABLE schema ( version UInt32) ENGINE = MergeTree ORDER BY version SETTINGS index_granularity = 8192;
