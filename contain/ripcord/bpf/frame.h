/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* From a frame to what the rules ask about it. */
#pragma once

#include "maps.h"

#define ETHER_IP4 0x0800
#define ETHER_IP6 0x86dd
#define ETHER_ARP 0x0806
#define ETHER_VLAN 0x8100
#define ETHER_QINQ 0x88a8
#define ETHER_EAPOL 0x888e
#define ETHER_LLDP 0x88cc
#define ICMP 1
#define TCP 6
#define UDP 17
#define ICMP6 58
#define SCTP 132
#define MAX_EXTENSIONS 6

/* What parse answers besides reasons to drop. */
#define IS_IP 0
#define IS_ARP -1
#define IS_OTHER -2

enum { WHOLE, FIRST, LATER };

struct packet {
	struct addr src, dst;
	__u32 len;	/* octets from l4 on, by the IP header */
	__u32 l3, l4;	/* offsets in the frame */
	__be16 sport, dport;
	__u16 ether;
	__u8 proto, v6, piece, type;
};

struct ip4 { __u8 vihl, tos; __be16 len, id, off; __u8 ttl, proto; __u16 sum; __be32 src, dst; };
struct ip6 { __u8 vtc, flow[3]; __be16 len; __u8 next, hops; struct addr src, dst; };

/* A walk over IPv4 or TCP options, which have the same form. */
struct options {
	__u8 b[64];	/* at most 40 are used; 64 so that a mask bounds the index */
	__u32 at, len;
	__u8 sack, sack_len;	/* where the edges begin; 0 when there is none */
	__u8 ip;		/* they are IPv4's */
	__u8 broken, sign, routed;
	__u8 cookie;		/* where a Fast Open cookie of 8 octets begins */
	__u8 pad;
};

#define LOAD(skb, at, to, n) bpf_skb_load_bytes(skb, at, to, n)

static long option(__u32 i, void *ctx)
{
	struct options *o = ctx;
	__u32 at = o->at, n;
	__u8 kind;

	if (at >= o->len)
		return 1;
	kind = o->b[at & 63];
	if (kind == 0)
		return 1;
	if (kind == 1) {
		o->at = at + 1;
		return 0;
	}
	n = o->b[(at + 1) & 63];
	if (at + 1 >= o->len || n < 2 || at + n > o->len) {
		o->broken = 1;
		return 1;
	}
	if (o->ip) {
		if (kind == 131 || kind == 137)	/* RFC 791: loose and strict source route */
			o->routed = 1;
	} else if (kind == 19 || kind == 29) {	/* RFC 2385, RFC 5925 */
		o->sign = 1;
	} else if (kind == 5) {			/* RFC 2018: pairs of edges */
		if (o->sack_len || n < 10 || n > 34 || (n & 7) != 2) {
			o->broken = 1;
			return 1;
		}
		o->sack = at + 2;
		o->sack_len = n - 2;
	} else if (kind == 34 && n == 10) {	/* RFC 7413; others are left alone */
		o->cookie = at + 2;
	}
	o->at = at + n;
	return 0;
}

/* n is 4 to 40. */
static __always_inline int walk_options(struct __sk_buff *skb, struct options *o, __u32 at, __u32 n)
{
	n &= 63;
	if (n < 4 || n > 40 || LOAD(skb, at, o->b, n))
		return MALFORMED;
	o->len = n;
	bpf_loop(40, option, o, 0);
	return 0;
}

static __always_inline int read_ports(struct __sk_buff *skb, struct packet *p)
{
	__be16 ports[2];
	__u8 type;

	if (p->piece == LATER)
		return IS_IP;
	switch (p->proto) {	/* TCP's come with the rest of its header */
	case UDP: case SCTP:
		if (p->len < 8 || LOAD(skb, p->l4, ports, 4))
			return MALFORMED;
		p->sport = ports[0];
		p->dport = ports[1];
		break;
	case ICMP: case ICMP6:
		if (p->len < 4 || LOAD(skb, p->l4, &type, 1))
			return MALFORMED;
		p->type = type;
	}
	return IS_IP;
}

static __noinline int parse_options4(struct __sk_buff *skb, __u32 at, __u32 n)
{
	struct options o = { .ip = 1 };
	int bad = walk_options(skb, &o, at, n);
	if (bad)
		return bad;
	if (o.routed)
		return SOURCE_ROUTED;
	return o.broken ? OPTIONS : IS_IP;
}

static __always_inline int parse4(struct __sk_buff *skb, struct packet *p)
{
	struct ip4 h;

	if (LOAD(skb, p->l3, &h, sizeof(h)) || h.vihl >> 4 != 4)
		return MALFORMED;
	__u32 head = (h.vihl & 15) * 4, total = bpf_ntohs(h.len), have = skb->len - p->l3;
	if (!total && skb->gso_size)	/* larger than the field */
		total = have;
	if (head < 20 || total < head || total > have)
		return MALFORMED;
	if (head > 20) {
		int bad = parse_options4(skb, p->l3 + 20, head - 20);
		if (bad)
			return bad;
	}
	p->src.w[2] = p->dst.w[2] = bpf_htonl(0xffff);
	p->src.w[3] = h.src;
	p->dst.w[3] = h.dst;
	p->proto = h.proto;
	p->l4 = p->l3 + head;
	p->len = total - head;
	__u16 off = bpf_ntohs(h.off);
	if (off & 0x1fff)
		p->piece = LATER;
	else if (off & 0x2000)
		p->piece = FIRST;
	return read_ports(skb, p);
}

static __always_inline int is_mapped(struct addr *a)
{
	return !(a->w[0] | a->w[1]) && a->w[2] == bpf_htonl(0xffff);
}

static __always_inline int parse6(struct __sk_buff *skb, struct packet *p)
{
	struct ip6 h;
	__u8 ext[4], next;
	__u32 total, have, at, n;

	if (LOAD(skb, p->l3, &h, sizeof(h)) || h.vtc >> 4 != 6)
		return MALFORMED;
	total = bpf_ntohs(h.len) + 40;
	have = skb->len - p->l3;
	if (total == 40 && skb->gso_size)
		total = have;
	if (total > have)
		return MALFORMED;
	p->v6 = 1;
	p->src = h.src;
	p->dst = h.dst;
	if (is_mapped(&p->src) || is_mapped(&p->dst))
		return MALFORMED;	/* the tables' form of IPv4, never sent (RFC 4942) */
	next = h.next;
	at = 40;
	for (int i = 0; i <= MAX_EXTENSIONS; i++) {
		if (p->piece == LATER || (next != 0 && next != 43 && next != 44 && next != 60)) {
			p->proto = next;
			p->l4 = p->l3 + at;
			p->len = total - at;
			return read_ports(skb, p);
		}
		if (at + 8 > total || LOAD(skb, p->l3 + at, ext, 4))
			return MALFORMED;
		n = (ext[1] + 1) * 8;
		if (next == 44) {
			__u16 off = ext[2] << 8 | ext[3];
			n = 8;
			if (off & 0xfff8)
				p->piece = LATER;
			else if (off & 1)
				p->piece = FIRST;
		} else if (next == 43 && ext[3]) {
			return SOURCE_ROUTED;
		}
		at += n;
		if (at > total)
			return MALFORMED;
		next = ext[0];
	}
	return NESTED;
}

static __noinline int parse(struct __sk_buff *skb, struct packet *p)
{
	__be16 ether;
	__u32 at = 12;

	for (int i = 0; i < 3; i++) {
		if (LOAD(skb, at, &ether, 2))
			return MALFORMED;
		if (ether != bpf_htons(ETHER_VLAN) && ether != bpf_htons(ETHER_QINQ))
			break;
		if (i == 2)
			return NESTED;
		at += 4;
	}
	p->ether = bpf_ntohs(ether);
	p->l3 = at + 2;
	switch (p->ether) {
	case ETHER_IP4:
		return parse4(skb, p);
	case ETHER_IP6:
		return parse6(skb, p);
	case ETHER_ARP:
		return IS_ARP;
	}
	return IS_OTHER;
}
