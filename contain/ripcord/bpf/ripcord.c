//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Two programs, one at the ingress of each interface, move every packet to the
 * other interface or drop it:
 *
 *   from_host  what the host sends: its addresses, its conversations
 *   from_net   what the network sends to the host
 *
 * Nothing ever reaches the machine they run on, except messages to the gateway,
 * which go to user space. */
#include "maps.h"
#include "frame.h"
#include "siphash.h"
#include "conn.h"
#include "rewrite.h"

static __always_inline __u64 clock(void) { return test_clock ? clock_ns : bpf_ktime_get_ns(); }
/* Reading the exact clock costs as much as a look-up; a tick or two is exact
 * enough for what lasts seconds. */
static __always_inline __u32 now_ms(void) { return (test_clock ? clock_ns : bpf_ktime_get_coarse_ns()) / 1000000; }

static __always_inline void count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &reason);
	if (n)
		(*n)++;
}

static __noinline void tell(struct packet *p, struct segment *s, __u32 side, __u32 reason)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count(EVENT_LOST);
		return;
	}
	e->time = clock();
	e->seq = s->seq;
	e->ack = s->ack;
	e->host = side == OUT ? p->src : p->dst;
	e->peer = side == OUT ? p->dst : p->src;
	e->hport = bpf_ntohs(side == OUT ? p->sport : p->dport);
	e->pport = bpf_ntohs(side == OUT ? p->dport : p->sport);
	e->reason = reason;
	e->side = side;
	e->proto = p->proto;
	e->observed = observe != 0;
	e->len = p->len;
	e->pad = 0;
	/* Events are read in batches, at the reader's leisure. */
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

/* ---- whose packet it is ---- */

static __always_inline int is_zero(struct addr *a) { return !(a->w[0] | a->w[1] | a->w[2] | a->w[3]); }

/* An address that a host can have for itself. */
static __always_inline int unicast(struct addr *a)
{
	__u32 top = bpf_ntohl(a->w[0]);

	if (is_mapped(a)) {
		__u32 v4 = bpf_ntohl(a->w[3]);
		return v4 >> 24 != 0 && v4 >> 24 != 127 && v4 >> 28 < 14;
	}
	if (top >> 24 == 0xff)
		return 0;
	return a->w[0] | a->w[1] || a->w[2];	/* not ::, ::1 or IPv4-compatible */
}

#define NEIGHBOUR_MS 600000

/* Whether the host may take an IPv6 address for itself: nobody else on the link
 * has it, and it is link-local or in a prefix of the link. */
static __noinline int may_learn6(struct addr *a, __u32 now)
{
	__u32 *claimed = bpf_map_lookup_elem(&neighbours, a), two = 2;
	struct prefix prefix = { { a->w[0], a->w[1] } };
	__s32 *left;

	if (claimed && now - *claimed < NEIGHBOUR_MS)
		return 0;
	if (bpf_ntohl(a->w[0]) >> 22 == 0xfe80 >> 6)
		return 1;
	if (bpf_map_lookup_elem(&prefixes, &prefix))
		return 1;
	left = bpf_map_lookup_elem(&budget, &two);
	if (!left || *left <= 0)
		return 0;
	if (__sync_fetch_and_add(left, -1) <= 0 || bpf_map_update_elem(&prefixes, &prefix, &now, BPF_NOEXIST)) {
		__sync_fetch_and_add(left, 1);
		return 0;
	}
	return 1;
}

/* What routers and neighbours say (RFC 4861). */
static __noinline void note_neighbour(struct __sk_buff *skb, struct packet *p, __u32 now)
{
	struct addr target;
	struct { __u8 type, len, bits, flags; } option;
	struct prefix prefix;
	__u8 hops;

	if (LOAD(skb, p->l3 + 7, &hops, 1) || hops != 255)
		return;	/* from beyond the link */
	if (!is_zero(&p->src))
		bpf_map_update_elem(&neighbours, &p->src, &now, BPF_ANY);
	if (p->type == 136 && p->len >= 24 && !LOAD(skb, p->l4 + 8, &target, 16) && !is_mapped(&target))
		bpf_map_update_elem(&neighbours, &target, &now, BPF_ANY);
	if (p->type != 134 || p->len < 16)
		return;
	__u32 at = 16;
	for (int i = 0; i < 8; i++) {
		if (at + 8 > p->len || LOAD(skb, p->l4 + at, &option, 4) || !option.len)
			return;
		if (option.type == 3 && option.len == 4 && option.bits == 64 && at + 32 <= p->len &&
		    !LOAD(skb, p->l4 + at + 16, &prefix, 8))
			bpf_map_update_elem(&prefixes, &prefix, &now, BPF_ANY);
		at += option.len * 8;
	}
}

#define SOURCE_MS 500

static __always_inline int same(struct addr *a, struct addr *b)
{
	return !((a->w[0] ^ b->w[0]) | (a->w[1] ^ b->w[1]) | (a->w[2] ^ b->w[2]) | (a->w[3] ^ b->w[3]));
}

static __noinline int check_source(struct addr *a, struct packet *p, struct segment *s)
{
	struct source *known, new = { .seen = s->now };
	__u32 which = is_mapped(a) ? 0 : 1, zero = 0;
	struct last *last = bpf_map_lookup_elem(&last_source, &zero);
	__s32 *left;

	/* An address that user space removes passes for SOURCE_MS more at most. */
	if (last && s->now - last->checked <= SOURCE_MS && same(&last->source, a) && !is_zero(a))
		return 0;
	known = bpf_map_lookup_elem(&sources, a);
	if (known) {
		/* Not each time: the line is shared by all processors. */
		if (new.seen - known->seen > SOURCE_MS)
			known->seen = new.seen;
		if (last) {
			last->source = *a;
			last->checked = known->seen;
		}
		return 0;
	}
	if (!unicast(a))
		return SPOOFED;
	left = bpf_map_lookup_elem(&budget, &which);
	if (!left || *left <= 0 || (which && !may_learn6(a, s->now)))
		return SPOOFED;
	if (__sync_fetch_and_add(left, -1) <= 0 || bpf_map_update_elem(&sources, a, &new, BPF_NOEXIST)) {
		__sync_fetch_and_add(left, 1);
		return SPOOFED;
	}
	count(LEARNT);
	tell(p, s, OUT, LEARNT);
	return 0;
}

/* The address an ARP packet claims for its sender (RFC 826); 0 is a probe (RFC
 * 5227). */
static __always_inline int check_arp(struct __sk_buff *skb, struct packet *p, struct segment *s)
{
	struct { __be16 hw, proto; __u8 hlen, plen; __be16 op; __u8 mac[6]; __u8 ip[4]; } arp;

	if (LOAD(skb, p->l3, &arp, 18))
		return MALFORMED;
	if (arp.hw != bpf_htons(1) || arp.proto != bpf_htons(ETHER_IP4) || arp.hlen != 6 || arp.plen != 4)
		return NOT_IP;
	__builtin_memcpy(&p->src.w[3], arp.ip, 4);
	p->src.w[2] = bpf_htonl(0xffff);
	if (!p->src.w[3])
		return 0;
	return check_source(&p->src, p, s);
}

static __always_inline int check_host(struct __sk_buff *skb, struct packet *p, struct segment *s)
{
	struct addr target;
	int why;

	/* A host without an address asks for one by DHCP. */
	if (is_mapped(&p->src) && !p->src.w[3] && p->proto == UDP && p->piece == WHOLE &&
	    p->sport == bpf_htons(68) && p->dport == bpf_htons(67) && p->dst.w[3] == ~0U)
		return 0;
	/* Router and neighbour solicitation, and multicast listener reports (RFC
	 * 4861, RFC 4862, RFC 3810), may come from no address. */
	if (is_zero(&p->src) && p->proto == ICMP6 && p->piece == WHOLE && bpf_ntohl(p->dst.w[0]) >> 24 == 0xff &&
	    (p->type == 133 || p->type == 135 || p->type == 143 || p->type == 131 || p->type == 132))
		return 0;
	why = check_source(&p->src, p, s);
	if (why)
		return why;
	if (p->proto == ICMP6 && p->type == 136) {
		/* An advertisement may claim the host's own addresses only. */
		if (p->piece != WHOLE || p->len < 24 || LOAD(skb, p->l4 + 8, &target, 16))
			return MALFORMED;
		return bpf_map_lookup_elem(&sources, &target) ? 0 : SPOOFED;
	}
	return 0;
}

/* ---- what has expired ---- */

/* User space sweeps every second. A table that is full nevertheless is swept here,
 * which looks at all of it: rarely, unless it makes room. */
#define SWEEP_MS 5000
#define SWEEP_AGAIN_MS 250

static __always_inline int expired(struct conn *c, __u32 now)
{
	__s32 idle = now - c->seen;

	if (c->state == ENDED && (__s32)(c->until - now) > 0)
		return 0;
	if (c->state == ENDED || over(c))
		return idle > (__s32)closed_ms;
	return idle > (__s32)(c->state == HANDSHAKING ? handshake_ms : established_ms);
}

struct expiry { __u32 now, gone; };

static long expire4(void *map, struct key4 *k, struct conn *c, struct expiry *e)
{
	if (expired(c, e->now) && !bpf_map_delete_elem(&conns4, k))
		e->gone++;
	return 0;
}

static long expire6(void *map, struct key6 *k, struct conn *c, struct expiry *e)
{
	if (expired(c, e->now) && !bpf_map_delete_elem(&conns6, k))
		e->gone++;
	return 0;
}

static long expire_stop(void *map, struct stop_key *k, struct stop *s, __u32 *now)
{
	if ((__s32)(s->until - *now) <= 0)
		bpf_map_delete_elem(&stops, k);
	return 0;
}

/* Whether a sweep is due; last is when the table had its last one. Of two processors
 * one does it. */
static __always_inline int due(__u32 *last, __u32 now)
{
	__u32 was = *(volatile __u32 *)last;

	return now - was >= SWEEP_MS && __sync_val_compare_and_swap(last, was, now) == was;
}

/* Makes room in the full table of connections. */
static __noinline int sweep_conns(__u32 v6, __u32 now)
{
	__u32 zero = 0, *last;
	struct sweeps *s = bpf_map_lookup_elem(&sweeps, &zero);
	struct expiry e = { .now = now };
	__u64 all;

	if (!s)
		return 0;
	last = v6 ? &s->conns6 : &s->conns4;
	if (!due(last, now))
		return 0;
	if (v6)
		all = bpf_for_each_map_elem(&conns6, expire6, &e, 0);
	else
		all = bpf_for_each_map_elem(&conns4, expire4, &e, 0);
	if (e.gone >= all / 16)
		*last = now - (SWEEP_MS - SWEEP_AGAIN_MS);
	return 1;
}

static __noinline int sweep_stops(__u32 now)
{
	__u32 zero = 0;
	struct sweeps *s = bpf_map_lookup_elem(&sweeps, &zero);

	if (!s || !due(&s->stops, now))
		return 0;
	bpf_for_each_map_elem(&stops, expire_stop, &now, 0);
	return 1;
}

/* ---- coarse conversations ---- */

static __always_inline void mask(struct addr *a, __u32 bits)
{
	for (int i = 0; i < 4; i++) {
		__u32 n = bits > 32 * i ? bits - 32 * i : 0;
		__u32 m = n >= 32 ? ~0U : n ? ~0U << (32 - (n & 31)) : 0;
		a->w[i] &= bpf_htonl(m);
	}
}

static __always_inline int is_stopped(struct stop_key *k, __u32 now, __u32 syn)
{
	struct stop *s = bpf_map_lookup_elem(&stops, k);

	return s && (__s32)(s->until - now) > 0 && (syn || !s->syn_only);
}

struct look { struct packet *p; struct lengths *used; __u32 now, syn, found; };

static long check_length(__u32 i, void *ctx)
{
	struct look *l = ctx;
	struct packet *p = l->p;
	__u32 bits;

	if (i >= STOP_LENGTHS)
		return 1;
	bits = l->used->bits[i];
	if (!bits)
		return i > 0;
	struct stop_key k = { .peer = p->dst, .bits = bits, .later = p->piece == LATER };

	mask(&k.peer, bits);
	l->found = 1;
	if (is_stopped(&k, l->now, l->syn))
		return 1;
	k.proto = p->proto;
	if (is_stopped(&k, l->now, l->syn))
		return 1;
	if (p->sport || p->dport) {
		k.hport = p->sport;
		if (is_stopped(&k, l->now, l->syn))
			return 1;
		k.pport = p->dport;
		if (is_stopped(&k, l->now, l->syn))
			return 1;
		k.hport = 0;
		if (is_stopped(&k, l->now, l->syn))
			return 1;
	}
	l->found = 0;
	return 0;
}

static __noinline int check_stops(struct packet *p, __u32 now, __u32 syn)
{
	__u32 zero = 0;
	struct look l = { .p = p, .used = bpf_map_lookup_elem(&stop_lengths, &zero), .now = now, .syn = syn };

	if (!l.used || !(l.used->bits[0] | l.used->bits[1]))
		return 0;
	bpf_loop(STOP_LENGTHS, check_length, &l, 0);
	return l.found ? STOPPED : 0;
}

static __noinline void note_hop(struct __sk_buff *skb, struct packet *p);

static __always_inline void note_talk(struct __sk_buff *skb, struct packet *p, __u32 now)
{
	struct talk_key k = { .peer = p->dst, .hport = p->sport, .pport = p->dport, .proto = p->proto };
	__u32 *last = bpf_map_lookup_elem(&talks, &k);

	if (!last)
		bpf_map_update_elem(&talks, &k, &now, BPF_ANY);
	else if (now - *last > 200)
		*last = now;
	else
		return;
	note_hop(skb, p);
}

static __always_inline __u32 vlan_of(struct __sk_buff *skb)
{
	return skb->vlan_present ? skb->vlan_tci | (__u32)skb->vlan_proto << 16 : 0;
}

/* Where a packet of the host goes, for what the gateway says in its name. */
static __noinline void note_hop(struct __sk_buff *skb, struct packet *p)
{
	struct hop h = { .vlan = vlan_of(skb) };

	if (!LOAD(skb, 0, &h, 12) && !(h.next[0] & 1))
		bpf_map_update_elem(&hops, &p->dst, &h, BPF_ANY);
}

/* The count falls by one each RESET_MS, so a client that tries until a service
 * starts is not taken for a flood. */
#define RESET_MS 500
#define FIRST_HOLD 1000
/* A peer with this many times as many, whatever the ports, wants none. */
#define PEER_RESETS 4

static __always_inline void count_resets(struct packet *p, struct segment *s, __be16 pport, __u32 limit)
{
	struct reset_key k = { .peer = p->src, .pport = pport };
	struct resets *r = bpf_map_lookup_elem(&resets, &k), new = { .since = s->now };
	struct stop_key key = { .peer = p->src, .pport = pport, .bits = 128, .proto = TCP };
	struct stop stop = { .syn_only = 1 }, *known;
	__u32 zero = 0, age, raise = 0;
	struct lengths *used;

	if (r)
		new = *r;
	if ((__s32)(s->now - new.since) >= RESET_MS) {
		age = (s->now - new.since) / RESET_MS;
		new.count = new.count > age ? new.count - age : 0;
		new.since += age * RESET_MS;
	}
	if (++new.count >= limit) {
		if (s->now - new.raised > new.hold + coarse_ms)
			new.hold = 0;
		new.hold = new.hold ? new.hold * 2 : FIRST_HOLD;
		if (new.hold > coarse_ms)
			new.hold = coarse_ms;
		new.raised = s->now;
		new.since = s->now + new.hold;	/* the next one raises it again */
		new.count = limit - 1;
		raise = 1;
	}
	bpf_map_update_elem(&resets, &k, &new, BPF_ANY);
	if (!raise)
		return;
	stop.until = s->now + new.hold;
	known = bpf_map_lookup_elem(&stops, &key);
	if (known && (__s32)(known->until - stop.until) >= 0)
		return;	/* what is there lasts longer */
	if (known && !known->syn_only && (__s32)(known->until - s->now) > 0)
		return;
	used = bpf_map_lookup_elem(&stop_lengths, &zero);
	if (!used)
		return;
	if (bpf_map_update_elem(&stops, &key, &stop, BPF_ANY) &&
	    (!sweep_stops(s->now) || bpf_map_update_elem(&stops, &key, &stop, BPF_ANY)))
		return;
	used->bits[0] = 128;
	count(COARSE_BLOCK);
	tell(p, s, IN, COARSE_BLOCK);
}

/* A port, or a peer, that answers one new connection of the host after the other
 * by RST wants none. */
static __noinline void count_reset(struct packet *p, struct segment *s)
{
	count_resets(p, s, p->sport, coarse_resets);
	count_resets(p, s, 0, coarse_resets * PEER_RESETS);
}

/* ---- TCP ---- */

static __always_inline struct conn *find(__u32 v6, struct addr *host, struct addr *peer, __be16 hport, __be16 pport)
{
	if (v6) {
		struct key6 k;
		__builtin_memcpy(k.host, host, 16);
		__builtin_memcpy(k.peer, peer, 16);
		k.hport = hport;
		k.pport = pport;
		struct conn *c = bpf_map_lookup_elem(&conns6, &k);
		return c ? c : bpf_map_lookup_elem(&half6, &k);
	}
	struct key4 k = { host->w[3], peer->w[3], hport, pport };
	struct conn *c = bpf_map_lookup_elem(&conns4, &k);
	return c ? c : bpf_map_lookup_elem(&half4, &k);
}

/* A number that neither end can foresee; 0 without a key. */
static __noinline __u64 draw(struct packet *p, __u32 side)
{
	__u32 zero = 0;
	struct secret *key = bpf_map_lookup_elem(&secrets, &zero);
	struct addr *host = side == OUT ? &p->src : &p->dst, *peer = side == OUT ? &p->dst : &p->src;
	__be16 hport = side == OUT ? p->sport : p->dport, pport = side == OUT ? p->dport : p->sport;
	__u64 m[SIP_WORDS];

	if (!key || !(key->k0 | key->k1))
		return 0;
	__builtin_memcpy(m, host, 16);
	__builtin_memcpy(m + 2, peer, 16);
	m[4] = (__u64)bpf_ntohs(hport) << 16 | bpf_ntohs(pport);
	m[5] = clock();
	return siphash(key, m);
}

/* Takes up a connection, or replaces one whole, so that no other processor sees half
 * of each (how is BPF_NOEXIST or BPF_EXIST); a full table is swept once. */
static __noinline int keep(struct packet *p, struct conn *n, __u32 side, __u32 now, __u64 how)
{
	struct addr *host = side == OUT ? &p->src : &p->dst, *peer = side == OUT ? &p->dst : &p->src;
	struct key6 k;

	k.hport = side == OUT ? p->sport : p->dport;
	k.pport = side == OUT ? p->dport : p->sport;
	__builtin_memcpy(k.host, host, 16);
	__builtin_memcpy(k.peer, peer, 16);
	struct key4 k4 = { host->w[3], peer->w[3], k.hport, k.pport };
	for (int i = 0; i < 2; i++) {
		long full;
		if (p->v6)
			full = n->half ? bpf_map_update_elem(&half6, &k, n, how) : bpf_map_update_elem(&conns6, &k, n, how);
		else
			full = n->half ? bpf_map_update_elem(&half4, &k4, n, how) : bpf_map_update_elem(&conns4, &k4, n, how);
		if (!full)
			return 0;
		if (n->half || !sweep_conns(p->v6, now))
			break;
	}
	return TABLE_FULL;
}

/* Moves a connection to which its peer has just agreed. */
static __noinline int promote(struct packet *p, struct conn *c, __u32 now)
{
	c->half = 0;
	if (keep(p, c, IN, now, BPF_NOEXIST)) {
		c->half = 1;
		return TABLE_FULL;
	}
	if (p->v6) {
		struct key6 k;
		__builtin_memcpy(k.host, &p->dst, 16);
		__builtin_memcpy(k.peer, &p->src, 16);
		k.hport = p->dport;
		k.pport = p->sport;
		bpf_map_delete_elem(&half6, &k);
		return 0;
	}
	struct key4 k = { p->dst.w[3], p->src.w[3], p->dport, p->sport };
	bpf_map_delete_elem(&half4, &k);
	return 0;
}

/* Takes the first SYN of a connection; the packet's own side sent it. */
static __noinline int open_conn(struct packet *p, struct segment *s, struct conn *old, __u32 side)
{
	struct conn n = {};
	__u64 random = draw(p, side);

	if (s->sign) {
		if (!signed_pass)
			return SIGNED;
		n.flags = EXEMPT;
	}
	if (!random)
		return TABLE_FULL;
	begin(&n, s, old, random, side);
	n.half = old ? old->half : side == IN;
	if (keep(p, &n, side, s->now, old ? BPF_EXIST : BPF_NOEXIST))
		return TABLE_FULL;
	count(OPENED);
	return 0;
}

/* Reads the header into s, h and o. */
static __noinline int read_segment(struct __sk_buff *skb, struct packet *p, struct segment *s, struct shift *h, struct options *o)
{
	struct { __be16 sport, dport; __be32 seq, ack; __u8 off, flags; __be16 win, sum, urg; __be32 first; } t;
	__u32 head;

	t.first = 0;
	if (p->len < 20 || (p->len < 24 ? LOAD(skb, p->l4, &t, 20) : LOAD(skb, p->l4, &t, 24)))
		return MALFORMED;
	p->sport = t.sport;
	p->dport = t.dport;
	head = (t.off >> 4) * 4;
	if (head < 20 || head > p->len)
		return MALFORMED;
	s->flags = t.flags & (T_FIN | T_SYN | T_RST | T_ACK);
	s->seq = bpf_ntohl(t.seq);
	s->ack = bpf_ntohl(t.ack);
	s->len = p->len - head;
	s->span = s->len + !!(t.flags & T_SYN) + !!(t.flags & T_FIN);
	if (t.flags & T_SYN && t.flags & (T_FIN | T_RST))
		return FLAGS;
	if (p->piece) {
		/* All that is judged and shifted is in the first fragment, but not how
		 * long the segment is. */
		if (s->flags & (T_SYN | T_RST) || !(s->flags & T_ACK))
			return FRAGMENT;
		s->first = 1;
		s->have = s->len;
		s->len = MAX_DATAGRAM;
		s->span = MAX_DATAGRAM + !!(t.flags & T_FIN);
	}
	h->at = p->l4;
	h->flags = t.flags;
	h->was[0] = t.seq;
	h->was[1] = t.ack;
	if (head == 20)
		return 0;
	/* Nearly every segment has a time stamp and nothing else. */
	if (head == 32 && t.first == bpf_htonl(0x0101080a))
		return 0;
	int bad = walk_options(skb, o, p->l4 + 20, head - 20);
	if (bad)
		return bad;
	s->sign = o->sign;
	return o->broken ? OPTIONS : 0;
}

/* The host grants a Fast Open cookie in its SYN|ACK: it leaves masked. */
static __noinline void grant_cookie(struct packet *p, struct options *o, struct shift *h)
{
	struct cookie_key k = { .host = p->src, .peer = p->dst };
	struct cookie *known = bpf_map_lookup_elem(&cookies, &k), new = {};

	new.mask = known ? known->mask : draw(p, OUT);
	if (!new.mask)
		return;
	new.value = ((__u64)bpf_ntohl(word(o, o->cookie)) << 32 | bpf_ntohl(word(o, o->cookie + 4))) ^ new.mask;
	if (bpf_map_update_elem(&cookies, &k, &new, BPF_ANY))
		return;
	h->mask = new.mask;
	h->masked = 1;
}

/* The peer's SYN has a cookie: the host gets it as it granted it. */
static __noinline void check_cookie(struct packet *p, struct segment *s, struct options *o, struct shift *h)
{
	struct cookie_key k = { .host = p->dst, .peer = p->src };
	struct cookie *known = bpf_map_lookup_elem(&cookies, &k);

	if (!known)
		return;
	s->cookie = known->value == ((__u64)bpf_ntohl(word(o, o->cookie)) << 32 | bpf_ntohl(word(o, o->cookie + 4)));
	h->mask = known->mask;
	h->masked = 1;
}

static __always_inline __u64 cookie_in(struct options *o)
{
	return (__u64)bpf_ntohl(word(o, o->cookie)) << 32 | bpf_ntohl(word(o, o->cookie + 4));
}

/* A peer grants the host a cookie in the SYN|ACK by which it agreed, whose number only
 * the peer knows. */
static __noinline void note_peer_cookie(struct packet *p, struct segment *s, struct conn *c, struct options *o)
{
	struct cookie_key k = { .host = p->dst, .peer = p->src };
	__u64 value;

	if (c->state != ESTABLISHED || s->seq != c->isn_in)
		return;
	value = cookie_in(o);
	bpf_map_update_elem(&peer_cookies, &k, &value, BPF_ANY);
}

/* Whether the host's SYN may have data: its peer took part in a handshake before,
 * and granted it the cookie that the SYN shows. */
static __noinline int may_send_early(struct packet *p, struct options *o)
{
	struct cookie_key k = { .host = p->src, .peer = p->dst };
	__u64 *known;

	if (!o->cookie)
		return 0;
	known = bpf_map_lookup_elem(&peer_cookies, &k);
	return known && *known == cookie_in(o);
}

/* Makes of a RST the gateway's own challenge: an acknowledgement, sent as the
 * host sends, whose number a peer without this connection answers with a RST
 * (RFC 9293, section 3.10.7.1). Its sequence number is old, as a keep-alive's,
 * so that a peer that has the connection ignores the rest of it. */
static __noinline int challenge(struct __sk_buff *skb, struct packet *p, struct segment *s, struct shift *h, struct conn *c)
{
	struct hop *hop = bpf_map_lookup_elem(&hops, &p->src);
	struct { __be32 seq, ack; __u8 off, flags; __be16 win, sum, urg; } t;
	__be32 seq = bpf_htonl(c->out_una - 1), ack = bpf_htonl(c->ack_hi), was, is;
	__u64 sum;

	if (!hop || hop->vlan != vlan_of(skb) || s->len || p->l4 != p->l3 + (p->v6 ? 40 : 20) ||
	    LOAD(skb, p->l4 + 4, &t, sizeof(t)))
		return INEXACT_RESET;
	sum = difference(t.seq, seq, 0) + difference(t.ack, ack, 0);
	__builtin_memcpy(&was, &t.off, 4);
	t.flags = T_ACK;
	t.win = 0xffff;
	__builtin_memcpy(&is, &t.off, 4);
	sum += difference(was, is, 0) + (__u16)~t.urg;
	t.seq = seq;
	t.ack = ack;
	t.urg = 0;
	__be16 ports[2] = { p->dport, p->sport };
	if (bpf_l4_csum_replace(skb, p->l4 + 16, 0, folded(sum), 0) ||
	    bpf_skb_store_bytes(skb, p->l4, ports, 4, 0) ||
	    bpf_skb_store_bytes(skb, p->l4 + 4, &t, 12, 0) ||
	    bpf_skb_store_bytes(skb, p->l4 + 18, &t.urg, 2, 0))
		return MALFORMED;
	if (p->v6) {
		struct addr both[2] = { p->dst, p->src };
		__u8 hops = 64;
		if (bpf_skb_store_bytes(skb, p->l3 + 8, both, 32, 0) ||
		    bpf_skb_store_bytes(skb, p->l3 + 7, &hops, 1, 0))
			return MALFORMED;
	} else {
		__be32 both[2] = { p->dst.w[3], p->src.w[3] };
		__u8 life[2];
		__be16 old, new;
		if (LOAD(skb, p->l3 + 8, life, 2))
			return MALFORMED;
		__builtin_memcpy(&old, life, 2);
		life[0] = 64;
		__builtin_memcpy(&new, life, 2);
		if (bpf_l3_csum_replace(skb, p->l3 + 10, old, new, 2) ||
		    bpf_skb_store_bytes(skb, p->l3 + 8, life, 2, 0) ||
		    bpf_skb_store_bytes(skb, p->l3 + 12, both, 8, 0))
			return MALFORMED;
	}
	if (bpf_skb_store_bytes(skb, 0, hop, 12, 0))
		return MALFORMED;
	c->probe = c->ack_hi;
	note(c, PROBED);
	c->until = s->now + CHALLENGE_MS;
	return CHALLENGE;
}

static __noinline int judge_segment(struct conn *c, struct packet *p, struct segment *s, __u32 side)
{
	int why;
	__u32 fresh;

	if ((s->flags & (T_SYN | T_ACK)) == T_SYN) {
		if (side == OUT) {
			if (c && barred(c, s->now))
				return BLOCKED;
			if (c && c->state != ENDED) {
				why = syn_repeats_out(c, s);
				if (why != NO_HANDSHAKE)
					return why;
			}
			return open_conn(p, s, c, OUT);
		}
		if (c && !syn_begins_in(c)) {
			syn_in(c, s);
			return PASSED_IN;
		}
		why = open_conn(p, s, c, IN);
		return why ? why : PASSED_IN;
	}
	if (!c)
		return NO_HANDSHAKE;
	if (side == OUT)
		return outgoing(c, s);
	fresh = c->state == HANDSHAKING && !(c->flags & SYN_IN);
	why = incoming(c, s);
	if (why != BLOCK)
		return why;
	count(BLOCK);
	tell(p, s, IN, BLOCK);
	if (fresh)
		count_reset(p, s);
	return PASSED_IN;
}

static __noinline int tcp(struct __sk_buff *skb, struct packet *p, struct segment *s, __u32 side)
{
	struct shift h = {};
	struct options o = {};
	struct conn *c;
	__u32 last;
	int why;

	if (p->piece && side == OUT)
		return FRAGMENT;
	why = read_segment(skb, p, s, &h, &o);
	if (why)
		return why;
	if (o.cookie && side == IN && (s->flags & (T_SYN | T_ACK)) == T_SYN)
		check_cookie(p, s, &o, &h);
	if (side == OUT) {
		why = check_stops(p, s->now, (s->flags & (T_SYN | T_ACK)) == T_SYN);
		if (why) {
			note_talk(skb, p, s->now);
			return why;
		}
		if ((s->flags & (T_SYN | T_ACK)) == T_SYN && s->len && !may_send_early(p, &o))
			return HANDSHAKE;
		c = find(p->v6, &p->src, &p->dst, p->sport, p->dport);
	} else {
		c = find(p->v6, &p->dst, &p->src, p->dport, p->sport);
	}
	last = c ? c->sent : s->now - 0x7fffffff;
	why = judge_segment(c, p, s, side);
	if (why == CHALLENGE)
		why = c ? challenge(skb, p, s, &h, c) : INEXACT_RESET;
	if (fail_open && (why == NO_HANDSHAKE || why == TABLE_FULL)) {
		count(UNTRACKED);
		if (why == TABLE_FULL)
			tell(p, s, side, UNTRACKED);
		return side;
	}
	if (why == INEXACT_RESET) {
		count(INEXACT_RESET);
		why = PASSED_IN;
	}
	if (why > PASSED_IN)
		return why;
	if (side == IN && c && c->half && c->state == ESTABLISHED) {
		if (!promote(p, c, s->now)) {
			c = 0;
		} else if (!fail_open) {
			become(c, ESTABLISHED, HANDSHAKING);
			return TABLE_FULL;
		}
	}
	if (!c || (s->flags & (T_SYN | T_ACK)) == T_SYN)	/* opened, replaced or moved just now */
		c = side == OUT ? find(p->v6, &p->src, &p->dst, p->sport, p->dport)
				: find(p->v6, &p->dst, &p->src, p->dport, p->sport);
	if (side == OUT && s->now - last > 200)
		note_hop(skb, p);
	if (!c || !(c->in | c->out))
		return side;
	h.seq = side == OUT ? c->out : c->in;
	h.edge = side == OUT ? -c->in : -c->out;
	h.ack = side == OUT ? raised(c, s) : h.edge;
	if (o.cookie && (s->flags & (T_SYN | T_ACK)) == (T_SYN | T_ACK)) {
		if (side == OUT)
			grant_cookie(p, &o, &h);
		else
			note_peer_cookie(p, s, c, &o);
	}
	why = shift_segment(skb, &h, &o);
	if (why)
		return why;
	if (o.sack_len)
		count(SACK);
	return side;
}

/* ---- ICMP errors, which quote a segment ---- */

static __always_inline int quotes(struct packet *p)
{
	if (p->proto == ICMP)
		return p->type == 3 || p->type == 4 || p->type == 5 || p->type == 11 || p->type == 12;
	return p->proto == ICMP6 && (p->type < 128 || p->type == 137);
}

/* Where a quote lies and what it names. */
struct quote { struct addr src, dst; __u32 at, have, v6; };

/* Finds the packet that a Redirect holds (RFC 4861, section 4.6.3). */
static __noinline int find_redirected(struct __sk_buff *skb, struct packet *p, struct quote *q)
{
	struct { __u8 type, len; } option;
	__u32 at = 40, n;

	for (int i = 0; i < 4; i++) {
		if (at + 8 > p->len)
			return 0;
		if (LOAD(skb, p->l4 + at, &option, 2) || !option.len)
			return UNSHIFTED;
		n = option.len * 8;
		if (option.type == 4) {
			q->at = p->l4 + at + 8;
			q->have = (n < p->len - at ? n : p->len - at) - 8;
			return IS_IP;
		}
		at += n;
	}
	return UNSHIFTED;
}

/* Finds the TCP header in a quote; IS_OTHER where there is none. */
static __noinline int find_quoted(struct __sk_buff *skb, struct quote *q, __u32 v6)
{
	__u8 ext[4], next;
	__u32 n;

	if (!v6) {
		struct ip4 h;
		if (q->have < 20 || LOAD(skb, q->at, &h, 20) || h.vihl >> 4 != 4 || h.proto != TCP || h.off & bpf_htons(0x1fff))
			return IS_OTHER;
		n = (h.vihl & 15) * 4;
		if (n < 20 || q->have < n)
			return IS_OTHER;
		q->src.w[2] = q->dst.w[2] = bpf_htonl(0xffff);
		q->src.w[3] = h.src;
		q->dst.w[3] = h.dst;
		q->at += n;
		q->have -= n;
		return IS_IP;
	}
	struct ip6 h;
	if (q->have < 40 || LOAD(skb, q->at, &h, 40) || h.vtc >> 4 != 6)
		return IS_OTHER;
	q->src = h.src;
	q->dst = h.dst;
	q->v6 = 1;
	q->at += 40;
	q->have -= 40;
	next = h.next;
	for (int i = 0; i <= MAX_EXTENSIONS; i++) {
		if (next == TCP)
			return IS_IP;
		if (next != 0 && next != 43 && next != 44 && next != 60)
			return IS_OTHER;
		if (q->have < 8 || LOAD(skb, q->at, ext, 4))
			return IS_OTHER;
		n = (ext[1] + 1) * 8;
		if (next == 44) {
			n = 8;
			if ((ext[2] << 8 | ext[3]) & 0xfff8)
				return IS_OTHER;
		}
		if (q->have < n)
			return IS_OTHER;
		q->at += n;
		q->have -= n;
		next = ext[0];
	}
	return IS_OTHER;
}

/* The quoted segment went the other way: it is shifted back. A quote that names
 * no connection of ours is left alone. One that holds a part of a number, or a
 * granted cookie, is dropped: it would tell the host what only its peer knows. */
static __noinline int shift_quote(struct __sk_buff *skb, struct packet *p, __u32 side)
{
	struct { __be16 ports[2]; __be32 seq; } t = {};
	struct { __be32 ack; __u8 off, flags; } rest;
	struct quote q = { .at = p->l4 + 8, .have = p->len - 8 };
	struct conn *c;
	__be32 is;
	__u64 sum;
	int why;

	if (p->piece == LATER || p->len < 8)
		return side;
	if (p->piece == FIRST)
		return UNSHIFTED;
	if (p->proto == ICMP6 && p->type == 137) {
		why = find_redirected(skb, p, &q);
		if (why)
			return why;
		if (q.at == p->l4 + 8)
			return side;
	}
	if (find_quoted(skb, &q, p->proto == ICMP6) != IS_IP || q.have <= 4)
		return side;
	if (q.have < 8)
		return UNSHIFTED;
	if (LOAD(skb, q.at, &t, 8))
		return UNSHIFTED;
	/* From the network comes back what the host sent. */
	c = side == IN ? find(q.v6, &q.src, &q.dst, t.ports[0], t.ports[1]) : find(q.v6, &q.dst, &q.src, t.ports[1], t.ports[0]);
	if (!c || !(c->in | c->out))
		return side;
	__u32 seq = side == IN ? -c->out : -c->in, ack = side == IN ? c->in : c->out;
	is = bpf_htonl(bpf_ntohl(t.seq) + seq);
	sum = difference(t.seq, is, 0);
	if (q.have > 8) {
		if (q.have < 14 || LOAD(skb, q.at + 8, &rest, 6))
			return UNSHIFTED;
		if ((rest.flags & (T_SYN | T_ACK)) == (T_SYN | T_ACK) && q.have > 20)
			return UNSHIFTED;
		if (rest.flags & T_ACK) {
			__be32 ack_is = bpf_htonl(bpf_ntohl(rest.ack) + ack);
			sum += difference(rest.ack, ack_is, 0);
			if (bpf_skb_store_bytes(skb, q.at + 8, &ack_is, 4, 0))
				return MALFORMED;
		}
	}
	if (bpf_skb_store_bytes(skb, q.at + 4, &is, 4, 0) ||
	    bpf_l4_csum_replace(skb, p->l4 + 2, 0, folded(sum), 0))
		return MALFORMED;
	count(QUOTE);
	return side;
}

/* ---- messages to the gateway ---- */

static __always_inline int is_control(struct __sk_buff *skb, struct packet *p, __be16 port)
{
	__u32 magic;

	if (p->proto != UDP || p->piece != WHOLE || port != bpf_htons(control_port) || p->len < 12)
		return 0;
	return !LOAD(skb, p->l4 + 8, &magic, 4) && magic == bpf_htonl(0x52495043); /* RIPC */
}

static __noinline int deliver(struct __sk_buff *skb)
{
	struct captured *l;
	__u32 n = skb->len;

	if (n < 14 || n > MAX_FRAME)
		return CONTROL;
	l = bpf_ringbuf_reserve(&frames, sizeof(*l), 0);
	if (!l) {
		count(EVENT_LOST);
		return CONTROL;
	}
	l->vlan = vlan_of(skb);
	l->len = n;
	if (bpf_skb_load_bytes(skb, 0, l->frame, n))
		bpf_ringbuf_discard(l, 0);
	else
		bpf_ringbuf_submit(l, 0);
	return CONTROL;
}

/* ---- one packet ---- */

static __always_inline int from_side(struct __sk_buff *skb, struct packet *p, struct segment *s, __u32 side)
{
	int why = parse(skb, p);

	if (why > 0)
		return why;
	if (why == IS_ARP && side == OUT) {
		why = check_arp(skb, p, s);
		return why ? why : PASSED_OUT;
	}
	if (why == IS_OTHER && side == OUT && p->ether != ETHER_EAPOL && p->ether != ETHER_LLDP)
		return NOT_IP;
	if (why != IS_IP)
		return side;
	if (side == OUT) {
		why = check_host(skb, p, s);
		if (why)
			return why;
	}
	if (p->proto == TCP)
		/* Without the first fragment, which is judged, the host gets nothing. */
		return side == IN && p->piece == LATER ? IN : tcp(skb, p, s, side);
	/* The gateway speaks in the name of its host only. */
	if (is_control(skb, p, side == OUT ? p->sport : p->dport) && (side == OUT || bpf_map_lookup_elem(&sources, &p->dst)))
		return side == OUT ? CONTROL : deliver(skb);
	if (side == IN && p->proto == ICMP6 && p->piece == WHOLE && p->type >= 133 && p->type <= 137)
		note_neighbour(skb, p, s->now);
	if (side == OUT) {
		/* What is stopped still shows that the host goes on. */
		note_talk(skb, p, s->now);
		why = check_stops(p, s->now, 0);
		if (why)
			return why;
	}
	return quotes(p) ? shift_quote(skb, p, side) : side;
}

static __always_inline int wire(struct __sk_buff *skb, __u32 side, __u32 to)
{
	struct packet p = {};
	struct segment s = { .now = now_ms() };
	int why = from_side(skb, &p, &s, side);

	count(why);
	if (why > PASSED_IN) {
		tell(&p, &s, side, why);
		if (why == CHALLENGE)
			return bpf_redirect(net_ifindex, 0);
		if (!observe || why == CONTROL)
			return 2;	/* TC_ACT_SHOT */
	}
	return bpf_redirect(to, 0);
}

SEC("tc")
int from_host(struct __sk_buff *skb) { return wire(skb, OUT, net_ifindex); }

SEC("tc")
int from_net(struct __sk_buff *skb) { return wire(skb, IN, host_ifindex); }

char _license[] SEC("license") = "GPL";
