/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What the programs keep and what user space sets. Everything below has its
 * like in contain/ripcord/tables; change both.
 *
 * Sequence numbers are in host byte order and "on the wire": as they look on
 * the network side of the gateway, the host's own shifted by out, the peer's as
 * the peer sent them. Times are milliseconds of the monotonic clock, which wrap
 * after 49 days and are compared by difference. */
#pragma once

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

/* Why a packet did not cross, and what else is counted. */
enum reason {
	PASSED_OUT, PASSED_IN,
	/* dropped: */
	NOT_IP, MALFORMED, NESTED, SOURCE_ROUTED, FRAGMENT, OPTIONS, FLAGS, SPOOFED,
	SIGNED, NO_HANDSHAKE, HANDSHAKE, NO_ACK, ACK_RANGE, CLOSED, BLOCKED, STOPPED,
	RESET_LIMIT, TABLE_FULL, UNSHIFTED, CHALLENGE, CONTROL, LAST_DROP = CONTROL,
	/* passed, and counted as well: */
	LEARNT, BLOCK, COARSE_BLOCK, INEXACT_RESET, QUOTE, SACK, OPENED, UNTRACKED,
	EVENT_LOST, REASONS,
};

/* The side a packet comes from. */
enum { OUT, IN };

enum { HANDSHAKING, ESTABLISHED, RESET, ENDED };

/* What was seen of a connection. */
#define SYN_OUT 1
#define SYN_IN 2
#define FIN_OUT 4
#define FIN_SEEN 8	/* the peer's, at fin_in; not acknowledged yet */
#define FIN_IN 16	/* acknowledged by the host */
#define EARLY 32	/* the peer's SYN had data and a cookie granted to it (RFC 7413) */
#define EXEMPT 64	/* signed segments: nothing is shifted */
#define PROBED 128	/* probe is set */

struct conn {
	__u32 out;	/* added to the host's sequence numbers */
	__u32 in;	/* added to the peer's on their way to the host */
	__u32 isn_out, isn_in;
	__u32 out_next;	/* end of what the host sent */
	__u32 out_una;	/* end of that which the peer acknowledged */
	__u32 in_next;	/* end of what the peer sent */
	__u32 fin_in;
	__u32 ack_hi;	/* highest acknowledgement let out */
	__u32 probe;	/* acknowledgement of the gateway's last challenge */
	__u32 seen;	/* last packet */
	__u32 sent;	/* last packet of the host */
	__u32 until;	/* when the host may begin a new handshake, after the peer
			 * has ended the last; ESTABLISHED: when the next challenge
			 * may leave */
	/* Two words, which are changed as such (conn.h): other layouts need other
	 * functions. */
	__u8 state, flags;
	__u8 credits;	/* answers the host owes: RSTs it may send */
	__u8 inexact;	/* RSTs that were not valid */
	__u8 grants;	/* segments the host may send before the peer has agreed */
	__u8 half;	/* it is in the table of half-open connections */
	__u8 reopen;	/* ENDED: the peer ended it after both had agreed, so that the
			 * host may begin another at once */
	__u8 fin_loose;	/* FIN_SEEN: it came in a fragment, so that fin_in is the least
			 * it can be */
};

struct key4 { __be32 host, peer; __be16 hport, pport; };
struct key6 { __be32 host[4], peer[4]; __be16 hport, pport; };

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 65536);
	__type(key, struct key4); __type(value, struct conn); } conns4 SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 65536);
	__type(key, struct key6); __type(value, struct conn); } conns6 SEC(".maps");

/* Connections that began with a SYN from outside, until the peer has agreed:
 * anybody can send those in any name, so the least recent give way, and take no
 * room from others. */
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 65536);
	__type(key, struct key4); __type(value, struct conn); } half4 SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 65536);
	__type(key, struct key6); __type(value, struct conn); } half6 SEC(".maps");

/* Addresses are IPv6 or IPv4-mapped, in network order. */
struct addr { __be32 w[4]; };

struct source { __u32 seen, fixed; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 256);
	__type(key, struct addr); __type(value, struct source); } sources SEC(".maps");

/* The source of the last packet on each processor, which is most often that of the
 * next; checked is when it was found in the table. */
struct last { struct addr source; __u32 checked, pad[3]; };
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1);
	__type(key, __u32); __type(value, struct last); } last_source SEC(".maps");

/* How many more IPv4 and IPv6 sources may be learnt, and prefixes of IPv6. */
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 3);
	__type(key, __u32); __type(value, __s32); } budget SEC(".maps");

/* The /64 in which IPv6 sources may be learnt: those that routers advertise, or
 * the first one that the host uses. */
struct prefix { __be32 w[2]; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16);
	__type(key, struct prefix); __type(value, __u32); } prefixes SEC(".maps");

/* IPv6 addresses that others on the link claim, and when they last did. */
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 1024);
	__type(key, struct addr); __type(value, __u32); } neighbours SEC(".maps");

/* The key of the nonces; user space sets and changes it. */
struct secret { __u64 k0, k1; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1);
	__type(key, __u32); __type(value, struct secret); } secrets SEC(".maps");

/* Coarse conversations that were ended. Ports and protocol 0 are any; later is
 * 1 for the fragments behind the first, which have no ports. */
struct stop_key { struct addr peer; __be16 hport, pport; __u8 bits, proto, later, pad; };
struct stop { __u32 until, syn_only; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16384); __uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct stop_key); __type(value, struct stop); } stops SEC(".maps");
/* The prefix lengths that stops use: 128 or 0 first, then others up to a 0. There
 * is room for all that the protocol has. */
#define STOP_LENGTHS 44
struct lengths { __u32 bits[STOP_LENGTHS]; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1);
	__type(key, __u32); __type(value, struct lengths); } stop_lengths SEC(".maps");

/* RSTs by which a port, or any port (0) of a peer, answered new connections: a
 * count that falls by one each RESET_MS. Losing the least recent only delays a
 * coarse block. */
struct reset_key { struct addr peer; __be16 pport; __u16 pad; };
struct resets { __u32 since, count, hold, raised; };	/* hold: how long the last block was */
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 4096);
	__type(key, struct reset_key); __type(value, struct resets); } resets SEC(".maps");

/* When the host last sent to somebody, TCP apart. A conversation that the table
 * loses is taken up again with its next packet. */
struct talk_key { struct addr peer; __be16 hport, pport; __u8 proto, pad[3]; };
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 65536);
	__type(key, struct talk_key); __type(value, __u32); } talks SEC(".maps");

/* How the host reaches a peer: the Ethernet header of its last packets there.
 * What the gateway says in the host's name leaves the same way. Losing the
 * least recent lasts until the host's next packet. */
struct hop { __u8 next[6], own[6]; __u32 vlan; };
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 16384);
	__type(key, struct addr); __type(value, struct hop); } hops SEC(".maps");

/* Fast Open cookies (RFC 7413) that the host granted. A cookie leaves masked,
 * so that the host does not know what its peer holds; losing the least recent
 * costs a round trip. */
struct cookie_key { struct addr host, peer; };
struct cookie { __u64 mask, value; };	/* value: as it left */
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 4096);
	__type(key, struct cookie_key); __type(value, struct cookie); } cookies SEC(".maps");

/* Those that peers granted to the host, in handshakes that both agreed to: only with
 * one may the host's SYN have data. */
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 4096);
	__type(key, struct cookie_key); __type(value, __u64); } peer_cookies SEC(".maps");

/* When the programs last removed what has expired, which they do when a table is
 * full and user space has not. */
struct sweeps { __u32 conns4, conns6, stops, pad; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1);
	__type(key, __u32); __type(value, struct sweeps); } sweeps SEC(".maps");

struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, REASONS);
	__type(key, __u32); __type(value, __u64); } counters SEC(".maps");

struct event {
	__u64 time;	/* ns, monotonic clock */
	__u32 seq, ack;	/* as they came in */
	struct addr host, peer;
	__u16 hport, pport;
	__u8 reason, side, proto, observed;
	__u32 len, pad;
};
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); } events SEC(".maps");

/* Frames for the gateway itself. */
#define MAX_FRAME 1514
struct captured { __u32 len, vlan; __u8 frame[MAX_FRAME]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 18); } frames SEC(".maps");

/* Set before the programs are loaded. */
volatile const __u32 host_ifindex, net_ifindex;
volatile const __u32 observe;		/* drop and change nothing */
volatile const __u32 fail_open;		/* what cannot be tracked passes */
volatile const __u32 signed_pass;	/* signed connections pass unshifted, instead of being refused */
volatile const __u32 block_ms = 30000;
volatile const __u32 coarse_ms = 60000;	/* the longest coarse block */
volatile const __u32 coarse_resets = 8;	/* this many of a port; four times as many of a peer */
volatile const __u32 handshake_ms = 75000;	/* how long silent connections are remembered */
volatile const __u32 established_ms = 432000000;
volatile const __u32 closed_ms = 1000;		/* the least, for those that both sides have closed */
volatile const __u32 control_port = 4817;
volatile const __u32 test_clock;
/* The time where test_clock is set, in ns. */
__u64 clock_ns;
