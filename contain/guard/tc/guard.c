//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Two programs at an interface toward a customer network:
 *
 *   from_inside  at its ingress: requests are judged, and dropped
 *   to_inside    at its egress: their replies are counted
 *
 * A third, control, does for user space what needs the lock. All work on the same
 * tables, on however many interfaces they are. */
#include "maps.h"
#include "tables.h"
#include "judge.h"

#define NEXT -1	/* enum tcx_action_base */
#define DROP 2

#define LOAD(skb, at, to, n) bpf_skb_load_bytes(skb, at, to, n)
#define TCP 6
#define ICMP 1
#define ICMP6 58
#define T_SYN 2
#define T_RST 4
#define T_ACK 16
#define MAX_HEADERS 16

enum { NOT_IP, ENTIRE, FIRST, LATER, TOO_LONG, BAD };

struct packet {
	struct key src, dst;
	u32 l4, len;	/* offset in the frame, and octets from there on by the IP header */
	u32 offset;	/* of a fragment */
	u8 proto, v6, pad[2];
};

struct ip4 { u8 vihl, tos; __be16 len, id, off; u8 ttl, proto; u16 sum; __be32 src, dst; };
struct ip6 { u8 vtc, flow[3]; __be16 len; u8 next, hops; __be64 src[2], dst[2]; };
struct tcp { __be16 sport, dport; __be32 seq, ack; u8 off, flags; __be16 window; u16 sum, urgent; };

INLINE struct key key4(__be32 a) { struct key k = { 0, 0xffff00000000ULL | bpf_ntohl(a) }; return k; }
INLINE struct key key6(__be64 *a) { struct key k = { bpf_be64_to_cpu(a[0]), bpf_be64_to_cpu(a[1]) }; return k; }

enum { OP_TICK, OP_REPLY, OP_PAUSE };
struct op { u8 frame[14], pad[2]; struct conn conn; s64 until; u32 op, what; };

/* What is too large for the stack. */
struct scratch { struct packet packet, quoted; struct conn conn; struct op op; struct tcp tcp; };
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1);
	__type(key, u32); __type(value, struct scratch); } scratches SEC(".maps");
GETTER(the_scratch, scratches, struct scratch)

struct walk { struct __sk_buff *skb; struct packet *p; u32 result, quoted; };

/* One extension header (packet.decodeUpper). */
static long extension(u32 i, struct walk *w)
{
	struct packet *p = w->p;
	u8 b[8], next = p->proto;
	u32 n;

	if (next != 51 && (!p->v6 || (next != 0 && next != 43 && next != 44 && next != 60))) {
		w->result = ENTIRE;
		return 1;
	}
	w->result = BAD;
	if (p->len < 8 || LOAD(w->skb, p->l4, b, 8))
		return 1;
	n = next == 51 ? (b[1] + 2) * 4 : next == 44 ? 8 : (b[1] + 1) * 8;
	if (n > p->len)
		return 1;
	if (next == 43 && b[3] && n >= 24 && n % 16 == 8 && (!b[2] || (b[2] == 2 && n == 24))) {
		__be64 last[2];
		if (LOAD(w->skb, p->l4 + n - 16, last, 16))
			return 1;
		p->dst = key6(last);
	}
	p->proto = b[0];
	p->l4 += n;
	p->len -= n;
	if (next == 44) {
		u16 off = b[2] << 8 | b[3];
		p->offset = off & 0xfff8;
		if (p->offset || off & 1) {
			w->result = p->offset ? LATER : FIRST;
			return 1;
		}
	}
	w->result = TOO_LONG;
	return 0;
}

INLINE u32 walk_headers(struct __sk_buff *skb, struct packet *p)
{
	struct walk w = { .skb = skb, .p = p, .result = TOO_LONG };

	if (p->proto == TCP)
		return ENTIRE;
	bpf_loop(MAX_HEADERS, extension, &w, 0);
	return w.result;
}

INLINE u32 parse4(struct __sk_buff *skb, struct packet *p, u32 l3)
{
	struct ip4 h;

	if (LOAD(skb, l3, &h, sizeof(h)) || h.vihl >> 4 != 4)
		return BAD;
	u32 head = (h.vihl & 15) * 4, total = bpf_ntohs(h.len), have = skb->len - l3;
	if (!total)
		total = have;
	if (head < 20 || total < head || total > have)
		return BAD;
	p->src = key4(h.src);
	p->dst = key4(h.dst);
	p->proto = h.proto;
	p->l4 = l3 + head;
	p->len = total - head;
	u16 off = bpf_ntohs(h.off);
	p->offset = (off & 0x1fff) * 8;
	if (p->offset)
		return LATER;
	if (off & 0x2000)
		return FIRST;
	return walk_headers(skb, p);
}

INLINE u32 parse6(struct __sk_buff *skb, struct packet *p, u32 l3)
{
	struct ip6 h;

	if (LOAD(skb, l3, &h, sizeof(h)) || h.vtc >> 4 != 6)
		return BAD;
	u32 total = bpf_ntohs(h.len) + 40, have = skb->len - l3;
	if (total == 40 && (have > 0xffff || skb->gso_size))
		total = have;
	if (total > have)
		return BAD;
	p->v6 = 1;
	p->src = key6(h.src);
	p->dst = key6(h.dst);
	/* No host sends them, and they would count for hosts of IPv4. */
	if (is4(p->src.hi, p->src.lo) || is4(p->dst.hi, p->dst.lo))
		return BAD;
	p->proto = h.next;
	p->l4 = l3 + 40;
	p->len = total - 40;
	return walk_headers(skb, p);
}

/* Frames are Ethernet's, with up to three tags, and a session of PPPoE (RFC 2516). */
static __noinline u32 parse(struct __sk_buff *skb, struct packet *p)
{
	u32 at = 14;
	__be16 type = skb->protocol;

	p->offset = p->v6 = 0;

	LOOP (int i = 0; i < 3; i++) {
		if (type != bpf_htons(0x8100) && type != bpf_htons(0x88a8) && type != bpf_htons(0x9100))
			break;
		if (LOAD(skb, at + 2, &type, 2))
			return NOT_IP;
		at += 4;
	}
	if (type == bpf_htons(0x8864)) {
		u8 b[8];
		if (LOAD(skb, at, b, 8) || b[0] != 0x11 || b[1] || b[6])
			return NOT_IP;
		type = b[7] == 0x21 ? bpf_htons(0x0800) : b[7] == 0x57 ? bpf_htons(0x86dd) : 0;
		at += 8;
	}
	if (type == bpf_htons(0x0800))
		return parse4(skb, p, at);
	if (type == bpf_htons(0x86dd))
		return parse6(skb, p, at);
	return NOT_IP;
}

/* Reads the flags of a TCP segment in a frame as most are: without tags, options of
 * IPv4, fragments and extension headers. */
INLINE int plain_flags(struct __sk_buff *skb)
{
	u8 *d = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (d + 54 > end)
		return -1;
	if (d[12] == 0x08 && !d[13])
		return d[14] == 0x45 && d[23] == TCP && !(d[20] & 0x3f) && !d[21] ? d[47] : -1;
	if (d[12] != 0x86 || d[13] != 0xdd || d + 74 > end)
		return -1;
	return d[20] == TCP ? d[67] : -1;
}

INLINE void set_prefix(struct prefix *x, struct key *k)
{

	x->bits = 128;
	__be64 words[2] = { bpf_cpu_to_be64(k->hi), bpf_cpu_to_be64(k->lo) };
	__builtin_memcpy(x->addr, words, 16);
}

static __noinline u64 scope_of(struct key *k)
{
	struct prefix x;
	u64 *v;

	set_prefix(&x, k);
	v = bpf_map_lookup_elem(&scope, &x);
	return v ? *v : 0;
}

INLINE int watches_port(u16 port)
{
	u32 word = port / 64;
	u64 *v = bpf_map_lookup_elem(&ports, &word);

	return v && *v >> (port % 64) & 1;
}

INLINE s64 told_time(struct limits *l) { return test_clock ? clock_ns : (s64)bpf_ktime_get_ns() + l->offset; }

/* ---- the lock ---- */

/* It is held for a fraction of a microsecond, but at midnight, when all records begin
 * another day. Softirqs are off while a program holds it. */
#define MOST_TRIES (1 << 22)

static long try_lock(u32 i, struct edge **e)
{
	if (*(volatile u32 *)&(*e)->lock)
		return 0;
	return !__sync_val_compare_and_swap(&(*e)->lock, 0, 1);
}

static __noinline int lock_edge(struct edge *e)
{
	if (!__sync_val_compare_and_swap(&e->lock, 0, 1))
		return 1;
	struct edge *of = e;
	if (bpf_loop(MOST_TRIES, try_lock, &of, 0) < MOST_TRIES)
		return 1;
	count(BUSY);
	return 0;
}

INLINE void unlock_edge(struct edge *e) { __sync_lock_test_and_set(&e->lock, 0); }

INLINE void tell(struct conn *c, s64 now, u32 what, u32 verdict)
{
	struct event *ev = bpf_ringbuf_reserve(&events, sizeof(*ev), 0);

	if (!ev) {
		count(LOST);
		return;
	}
	ev->time = now;
	ev->conn = *c;
	ev->what = what;
	ev->verdict = verdict;
	bpf_ringbuf_submit(ev, BPF_RB_NO_WAKEUP);
}

INLINE void set_conn(struct limits *l, struct edge *e, struct conn *c)
{
	e->conn = *c;
	e->conn_hash = hash_conn(l, c);
}

/* ---- what comes from inside ---- */

/* Whether a source may be used from this station: FORWARD, SPOOFED, or UNWATCHED for
 * a source without a binding where only those with one are watched. */
static __noinline int check_station(struct limits *l, struct key *src, u64 station)
{
	struct prefix x;
	u64 *binding;

	set_prefix(&x, src);
	binding = bpf_map_lookup_elem(&bound, &x);
	if (!binding)
		return l->bound_only ? UNWATCHED : FORWARD;
	struct station s = { *binding, station };
	return bpf_map_lookup_elem(&stations, &s) ? FORWARD : SPOOFED;
}

static __noinline int is_blocked(struct limits *l, struct edge *e, struct key *src)
{
	struct prefix x;
	s64 *until;

	set_prefix(&x, src);
	until = bpf_map_lookup_elem(&blocked, &x);
	return until && told_time(l) + e->shift < *until;
}

INLINE u64 read_station(struct __sk_buff *skb)
{
	u8 m[6];

	if (LOAD(skb, 6, m, 6))
		return 0;
	return (u64)m[0] << 40 | (u64)m[1] << 32 | (u64)m[2] << 24 | (u64)m[3] << 16 | (u64)m[4] << 8 | m[5];
}

INLINE void set_talk(struct talk *t, struct packet *p, struct __sk_buff *skb, int reversed)
{
	__be16 ports[2] = {};

	__builtin_memset(t, 0, sizeof(*t));
	if (p->proto == 17 && p->len >= 8)
		LOAD(skb, p->l4, ports, 4);
	t->src = reversed ? p->dst : p->src;
	t->dst = reversed ? p->src : p->dst;
	t->sport = reversed ? ports[1] : ports[0];
	t->dport = reversed ? ports[0] : ports[1];
	t->proto = p->proto;
}

#define TALK_NS 120000000000ULL

static __noinline int opens_talk(struct __sk_buff *skb, struct packet *p)
{
	struct talk t;
	u64 *at;

	set_talk(&t, p, skb, 0);
	at = bpf_map_lookup_elem(&talks, &t);
	return !at || bpf_ktime_get_ns() - *at > TALK_NS;
}

INLINE int request(struct limits *l, struct edge *e, struct conn *c, u32 refused)
{
	if (!lock_edge(e))
		return l->acting ? BLOCKED : FORWARD;
	advance_clock(l, e, told_time(l));
	set_conn(l, e, c);
	int v = judge_request(refused);
	s64 now = e->now - e->shift;
	unlock_edge(e);
	if (v > FORWARD && l->events)
		tell(c, now, DROP_EVENT, v);
	return v;
}

SEC("tc")
int from_inside(struct __sk_buff *skb)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);
	struct scratch *x = the_scratch(0);
	u32 refused = 0, v;
	u64 station = 0, known;

	if (!l || !e || !x)
		return NEXT;
	/* Data goes on at once. */
	int flags = plain_flags(skb);
	if (flags >= 0 && (flags & (T_SYN | T_ACK | T_RST)) != T_SYN && !l->bindings)
		return NEXT;
	struct packet *p = &x->packet;
	struct tcp *h = &x->tcp;
	u32 piece = parse(skb, p);
	if (piece == NOT_IP || piece == BAD)
		return NEXT;
	if (l->bindings) {
		station = read_station(skb);
		v = check_station(l, &p->src, station);
		if (v == SPOOFED)
			refused = SPOOFED;
		if (v == UNWATCHED)
			refused = VERDICTS;	/* none, and not watched */
	}
	if (piece != ENTIRE) {
		int hides;
		if (piece == TOO_LONG)
			hides = 1;
		else if (p->proto != TCP)
			hides = p->v6 && piece == FIRST && (p->proto == 0 || p->proto == 43 || p->proto == 44 || p->proto == 60);
		else if (piece == LATER)
			hides = p->offset <= 13;
		else
			hides = p->len <= 13 || LOAD(skb, p->l4, h, 14) || h->flags & T_SYN;
		known = hides ? scope_of(&p->src) : 0;
		if (known & IN_SCOPE && !(known & EXEMPT)) {
			count(FRAGMENTS);
			return l->acting ? DROP : NEXT;
		}
		return refused == SPOOFED && l->acting ? DROP : NEXT;
	}
	if (p->proto != TCP) {
		if (l->blocks && is_blocked(l, e, &p->src) && !(scope_of(&p->src) & ALLOWED) && opens_talk(skb, p)) {
			count(BLOCKS);
			return DROP;
		}
		return refused == SPOOFED && l->acting ? DROP : NEXT;
	}
	if (p->len < 20 || LOAD(skb, p->l4, h, sizeof(*h)) || (h->off >> 4) * 4 < 20 || (h->off >> 4) * 4 > p->len)
		return NEXT;
	if ((h->flags & (T_SYN | T_ACK | T_RST)) != T_SYN)
		return refused == SPOOFED && l->acting ? DROP : NEXT;
	known = scope_of(&p->src);
	int block = l->blocks && !(known & ALLOWED) && is_blocked(l, e, &p->src);
	int watched = watches_port(bpf_ntohs(h->dport)) && known & IN_SCOPE && !(known & EXEMPT) && refused != VERDICTS;
	if (!watched) {
		if (block)
			count(BLOCKS);
		return block || (refused == SPOOFED && l->acting) ? DROP : NEXT;
	}
	if (block && !refused)
		refused = BLOCKED;
	struct conn *c = &x->conn;
	c->src = p->src;
	c->dst = p->dst;
	c->link = station;
	c->seq = bpf_ntohl(h->seq);
	c->sport = bpf_ntohs(h->sport);
	c->dport = bpf_ntohs(h->dport);
	count(REQUESTS);
	v = request(l, e, c, refused);
	if (v <= FORWARD)
		return NEXT;
	if (v != BLOCKED && !l->acting)
		return NEXT;
	count(DROPPED);
	return DROP;
}

/* ---- what goes inside ---- */

static __noinline void note_talk(struct __sk_buff *skb, struct packet *p)
{
	struct talk t;
	u64 now = bpf_ktime_get_ns();

	set_talk(&t, p, skb, 1);
	bpf_map_update_elem(&talks, &t, &now, BPF_ANY);
}

INLINE int reply(struct limits *l, struct edge *e, struct conn *c, u32 what, int told)
{
	u32 o;
	u64 known = scope_of(&c->src);

	if (!watches_port(c->dport) || !(known & IN_SCOPE) || known & EXEMPT)
		return IGNORED;
	count(REPLIES);
	if (!lock_edge(e))
		return OUTCOMES;
	advance_clock(l, e, told_time(l));
	set_conn(l, e, c);
	if (what == SUCCESS_EVENT) {
		o = count_success();
	} else {
		o = count_failure(what == RESET_EVENT ? RESET : what == UNREACHABLE_EVENT ? UNREACHABLE : LOGGED);
		if (o < OUTCOMES)
			e->counts.outcomes[o]++;
	}
	s64 now = e->now - e->shift;
	unlock_edge(e);
	if (o == FORGED && told && l->share)
		tell(c, now, what, 0);
	return o;
}

/* Reads the connection that an ICMP error is about. */
static __noinline int read_quote(struct __sk_buff *skb, struct packet *p, struct conn *c)
{
	struct scratch *x = the_scratch(0);
	u8 first;
	__be16 ports[2];
	__be32 seq;
	u32 at = p->l4 + 8;

	if (!x || p->len < 8 || LOAD(skb, at, &first, 1))
		return 0;
	struct packet *q = &x->quoted;
	q->offset = q->v6 = 0;
	if (first >> 4 == 4) {
		struct ip4 h;
		if (p->len < 28 || LOAD(skb, at, &h, sizeof(h)))
			return 0;
		u32 head = (h.vihl & 15) * 4;
		if (head < 20 || head > p->len - 8 || bpf_ntohs(h.off) & 0x1fff)
			return 0;
		q->src = key4(h.src);
		q->dst = key4(h.dst);
		q->proto = h.proto;
		q->l4 = at + head;
		q->len = p->len - 8 - head;
	} else {
		struct ip6 h;
		if (first >> 4 != 6 || p->len < 48 || LOAD(skb, at, &h, sizeof(h)))
			return 0;
		q->v6 = 1;
		q->src = key6(h.src);
		q->dst = key6(h.dst);
		q->proto = h.next;
		q->l4 = at + 40;
		q->len = p->len - 48;
		u32 piece = walk_headers(skb, q);
		if (piece == LATER)
			return 0;
	}
	if (q->proto != TCP || q->len < 8 || q->src.hi != p->dst.hi || q->src.lo != p->dst.lo)
		return 0;
	if (LOAD(skb, q->l4, ports, 4) || LOAD(skb, q->l4 + 4, &seq, 4))
		return 0;
	c->src = q->src;
	c->dst = q->dst;
	c->sport = bpf_ntohs(ports[0]);
	c->dport = bpf_ntohs(ports[1]);
	c->seq = bpf_ntohl(seq);
	return 1;
}

SEC("tc")
int to_inside(struct __sk_buff *skb)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);
	struct scratch *x = the_scratch(0);
	u32 what;

	if (!l || !e || !x)
		return NEXT;
	int plain = plain_flags(skb);
	if (plain >= 0 && !(plain & (T_SYN | T_RST)))
		return NEXT;
	struct packet *p = &x->packet;
	struct tcp *h = &x->tcp;
	struct conn *c = &x->conn;
	if (parse(skb, p) != ENTIRE)
		return NEXT;
	if (p->proto == TCP) {
		if (p->len < 20 || LOAD(skb, p->l4, h, sizeof(*h)) || (h->off >> 4) * 4 < 20 || (h->off >> 4) * 4 > p->len)
			return NEXT;
		u32 flags = h->flags & (T_SYN | T_ACK | T_RST);
		if (flags == (T_SYN | T_ACK))
			what = SUCCESS_EVENT;
		else if (flags == (T_RST | T_ACK))
			what = RESET_EVENT;
		else
			return NEXT;
		c->src = p->dst;
		c->dst = p->src;
		c->sport = bpf_ntohs(h->dport);
		c->dport = bpf_ntohs(h->sport);
		c->seq = bpf_ntohl(h->ack) - 1;
	} else {
		u8 icmp[2];
		if (l->blocks && is_blocked(l, e, &p->dst)) {
			note_talk(skb, p);
		}
		if (p->proto != ICMP && p->proto != ICMP6)
			return NEXT;
		if (p->len < 8 || LOAD(skb, p->l4, icmp, 2))
			return NEXT;
		if (p->proto == ICMP6 ? icmp[0] != 1 : icmp[0] != 3 || icmp[1] == 4)
			return NEXT;
		if (!read_quote(skb, p, c))
			return NEXT;
		what = UNREACHABLE_EVENT;
	}
	u32 by = skb->ingress_ifindex;
	if (bpf_map_lookup_elem(&insides, &by))
		return NEXT;
	/* Where it could not be counted, it is lost: a SYN that is sent again brings another. */
	return reply(l, e, c, what, 1) == OUTCOMES && l->acting ? DROP : NEXT;
}

/* ---- what user space asks for ---- */

SEC("tc")
int control(struct __sk_buff *skb)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);
	struct scratch *x = the_scratch(0);

	if (!l || !e || !x || LOAD(skb, 0, &x->op, sizeof(x->op)))
		return OUTCOMES;
	struct op *op = &x->op;
	if (op->op == OP_REPLY)
		return reply(l, e, &op->conn, op->what, 0);
	if (!lock_edge(e))
		return OUTCOMES;
	s64 told = told_time(l);
	advance_clock(l, e, told);
	if (op->op == OP_PAUSE)
		e->paused = greater(e->paused, e->now + (op->until - told));
	unlock_edge(e);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
