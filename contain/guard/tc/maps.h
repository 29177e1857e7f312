/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What the programs keep: the tables of daw/, laid out as daw.Tables describes
 * them, and what user space sets. Change both.
 *
 * Times are nanoseconds since 1970 as the edge's clock has them (daw/clock.go).
 * Addresses are 128 bits in two host-order words, IPv4 in its mapped form. */
#pragma once

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

typedef __u8 u8; typedef __u16 u16; typedef __u32 u32; typedef __u64 u64; typedef __s64 s64;

#define INLINE static __always_inline
#define NONE (~0U)

/* Tables with keys: four of records, and three lists. Which of the last two is
 * today's changes each midnight. */
enum { HOSTS, NET64, NET56, NET48, TIERS, RECENT = TIERS, SERVICES0, SERVICES1, TABLES };

struct key { u64 hi, lo; };

struct record {
	struct key key;
	s64 tokens, at;
	u32 f, c;
	s64 measured;
	u32 asked, answered, last_site;
	u16 pad;
	u8 days, flags;
};

/* Flags of a record. */
#define LIVE 1
#define LIMITED 2
#define AT_LIMIT 4
#define MEMBER 8
#define LATE 16
#define PROPOSED 32

struct history { u32 weekly, monthly, silent; u16 forgiven, pad; };

struct entry {
	u32 f, c;
	s64 measured;
	u32 asked, answered, kept;
	u8 promoted, pad[3];
};

struct request { u32 tag, seq, at; };
struct line { struct request requests[5]; u32 lost; };

struct pending { struct key src, dst; u64 hash; s64 at; u32 seq; u16 sport, dport; };

enum verdict { UNWATCHED, FORWARD, TEMPORAL, NETWORK64, NETWORK56, NETWORK48, SPATIAL, BLOCKED, SPOOFED, VERDICTS };
enum outcome { IGNORED, COUNTED, FORGED, WAS_RECENT, INDUCED, OUTCOMES };
enum kind { RESET, UNREACHABLE, LOGGED, SILENT };

struct counts { s64 day; u64 requests, successes, silences, known, verdicts[VERDICTS], outcomes[OUTCOMES]; };

struct list { u32 next, full; u64 inserted; };

/* A connection as its source opened it. */
struct conn { struct key src, dst; u64 link; u32 seq; u16 sport, dport; };

/* The state that is neither a table nor a setting, under one lock. */
struct edge {
	u32 lock, current;	/* current: which list of services is today's */
	s64 shift, now, day, end;
	u64 steps;
	s64 tokens, at;		/* the bucket of the customer network */
	u64 count, asked, dropped;
	u32 members, active;
	s64 replied, paused, epoch;
	u32 first, used;	/* of the ring of waiting requests */
	struct list lists[TABLES - TIERS];
	u32 n[TIERS], spare[TIERS];	/* slots ever used, and those free again */
	u64 draw[TIERS];
	struct counts counts, previous;
	/* Scratch, of the packet that holds the lock. */
	struct conn conn;
	u64 conn_hash, source_hash[TIERS];
	u32 entry[TIERS], slot[TIERS];
};

struct quota { s64 omega; u64 rate; s64 refill, size; };
struct table { u64 seed; u32 cells, mask, keys, size; };	/* cells, keys: where they begin */

/* Set by user space. */
struct limits {
	struct quota quotas[TIERS], network;
	struct table tables[TABLES];
	s64 weekly[TIERS], monthly[TIERS];
	u64 seed, beta;
	s64 phi, induced, midnight, silence;
	u32 tau, grace, life, entries, records, lines, waiting;
	u32 list_all;
	/* What may change while the programs run. */
	s64 offset;	/* wall clock minus monotonic clock */
	u32 acting;	/* limits are enforced */
	u32 blocks, bindings;	/* there are some */
	u32 bound_only;	/* sources without a binding are not watched */
	u32 share;	/* replies that match no request are told */
	u32 events;	/* drops are told */
};

#define ARRAY(name, value_type) struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); \
	__uint(map_flags, BPF_F_MMAPABLE); __type(key, u32); __type(value, value_type); } name SEC(".maps")

ARRAY(edges, struct edge);
ARRAY(settings, struct limits);
ARRAY(records, struct record);
ARRAY(histories, struct history);
ARRAY(spares, u64);
ARRAY(entries, struct entry);
ARRAY(cells, u64);
ARRAY(keys, struct key);
ARRAY(services, u64);		/* the ports of the services in keys */
ARRAY(lines, struct line);
ARRAY(waitings, struct pending);
ARRAY(ports, u64);		/* P, as bits */

struct prefix { u32 bits; u8 addr[16]; };
#define TRIE(name, value_type, n) struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(max_entries, n); \
	__uint(map_flags, BPF_F_NO_PREALLOC); __type(key, struct prefix); __type(value, value_type); } name SEC(".maps")

/* What is said about a source; of overlapping prefixes user space adds it up. */
#define IN_SCOPE 1
#define EXEMPT 2
#define ALLOWED 4
TRIE(scope, u64, 1 << 17);
TRIE(blocked, s64, 1 << 17);	/* until when */
TRIE(bound, u64, 1 << 17);	/* the number of the binding */

struct station { u64 binding, station; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1 << 17); __uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct station); __type(value, u64); } stations SEC(".maps");

/* The interfaces toward the customer network: what came by one of them is no reply. */
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 256);
	__type(key, u32); __type(value, u32); } insides SEC(".maps");

/* Conversations other than TCP of which a blocked source got a packet lately. */
struct talk { struct key src, dst; u16 sport, dport; u32 proto; };
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 1 << 14);
	__type(key, struct talk); __type(value, u64); } talks SEC(".maps");

enum counter { REQUESTS, DROPPED, FRAGMENTS, BUSY, LOST, REPLIES, BLOCKS, COUNTERS };
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, COUNTERS);
	__type(key, u32); __type(value, u64); } counters SEC(".maps");

enum { DROP_EVENT, SUCCESS_EVENT, RESET_EVENT, UNREACHABLE_EVENT };
struct event { s64 time; struct conn conn; u32 what, verdict; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); } events SEC(".maps");

volatile const u32 test_clock;
s64 clock_ns;	/* the reported time where test_clock is set */

#define GETTER(name, map, type) INLINE type *name(u32 i) { return bpf_map_lookup_elem(&map, &i); }
GETTER(the_edge, edges, struct edge)
GETTER(the_limits, settings, struct limits)
GETTER(the_record, records, struct record)
GETTER(the_history, histories, struct history)
GETTER(the_spare, spares, u64)
GETTER(the_entry, entries, struct entry)
GETTER(the_cell, cells, u64)
GETTER(the_key, keys, struct key)
GETTER(the_service, services, u64)
GETTER(the_line, lines, struct line)
GETTER(the_pending, waitings, struct pending)

INLINE void count(u32 what)
{
	u64 *n = bpf_map_lookup_elem(&counters, &what);
	if (n)
		(*n)++;
}
