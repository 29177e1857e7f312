/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Changing sequence numbers in place. The checksum is never recomputed: the
 * helper adds the difference where the field holds a whole checksum, and leaves
 * it alone where the card or the receiver is to sum the segment later. No
 * length changes, so packets larger than a frame are changed once. */
#pragma once

#include "frame.h"

/* The difference that a word makes to a checksum; odd when it does not begin at
 * an even offset. */
static __always_inline __u64 difference(__be32 was, __be32 is, int odd)
{
	__u32 no = ~was;

	if (odd) {
		no = no << 8 | no >> 24;
		is = is << 8 | is >> 24;
	}
	return (__u64)no + is;
}

static __always_inline __u32 folded(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

struct shift {
	__u32 at;	/* of the TCP header in the frame */
	__u32 seq, ack;	/* what is added */
	__u32 edge;	/* to the edges of selective acknowledgements */
	__u32 masked;	/* the cookie is masked */
	__u64 mask;
	__u32 flags;
	__be32 was[2];	/* sequence and acknowledgement */
};

/* The word of options at an offset. */
static __always_inline __be32 word(struct options *o, __u32 at)
{
	__u32 v = (__u32)o->b[at & 63] | (__u32)o->b[(at + 1) & 63] << 8 |
		  (__u32)o->b[(at + 2) & 63] << 16 | (__u32)o->b[(at + 3) & 63] << 24;

	return bpf_htonl(__builtin_bswap32(v));
}

static __always_inline void set_word(struct options *o, __u32 at, __be32 is)
{
	__u32 v = bpf_ntohl(is);

	o->b[at & 63] = v >> 24;
	o->b[(at + 1) & 63] = v >> 16;
	o->b[(at + 2) & 63] = v >> 8;
	o->b[(at + 3) & 63] = v;
}

/* The edges in o move with the acknowledgement. */
static __always_inline int shift_segment(struct __sk_buff *skb, struct shift *h, struct options *o)
{
	__be32 is[2] = { bpf_htonl(bpf_ntohl(h->was[0]) + h->seq), h->was[1] };
	__u64 sum = difference(h->was[0], is[0], 0);

	if (h->flags & 16) {
		is[1] = bpf_htonl(bpf_ntohl(h->was[1]) + h->ack);
		sum += difference(h->was[1], is[1], 0);
	}
	if (o->sack_len) {
		for (__u32 i = 0; i < 8; i++) {
			__u32 at = o->sack + i * 4;
			__be32 was, edge;

			if (i * 4 >= o->sack_len)
				break;
			was = word(o, at);
			edge = bpf_htonl(bpf_ntohl(was) + h->edge);
			sum += difference(was, edge, at & 1);
			set_word(o, at, edge);
		}
	}
	if (h->masked) {
		for (__u32 i = 0; i < 2; i++) {
			__u32 at = o->cookie + i * 4;
			__be32 was = word(o, at), is = was ^ bpf_htonl((__u32)(h->mask >> (32 - i * 32)));

			sum += difference(was, is, at & 1);
			set_word(o, at, is);
		}
	}
	if (o->sack_len || h->masked) {
		__u32 n = o->len & 63;
		if (n < 4 || n > 40 || bpf_skb_store_bytes(skb, h->at + 20, o->b, n, 0))
			return MALFORMED;
	}
	if (bpf_l4_csum_replace(skb, h->at + 16, 0, folded(sum), 0) ||
	    bpf_skb_store_bytes(skb, h->at + 4, is, sizeof(is), 0))
		return MALFORMED;
	return 0;
}
