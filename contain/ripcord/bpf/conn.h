/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* One TCP connection: what may pass, and what a RST must hold to end it. */
#pragma once

#include <stddef.h>
#include "maps.h"

#define T_FIN 1
#define T_SYN 2
#define T_RST 4
#define T_ACK 16

/* A connection is challenged this often at most, ms. */
#define CHALLENGE_MS 500
/* What the host may send before the peer has agreed: a SYN|ACK and five
 * repetitions, and one more for each repetition of the peer's SYN; or data, to a
 * peer that showed a Fast Open cookie. */
#define SYN_ACKS 6
#define MOST_SYN_ACKS 16
#define EARLY_SEGMENTS 64
#define EARLY_OCTETS 65536
/* No IP datagram is longer. */
#define MAX_DATAGRAM 65535
/* No window is larger (RFC 7323), so nothing further ahead was sent. */
#define MAX_WINDOW 0x40010000
/* A new incarnation begins this far ahead of the last, at most. */
#define STEP 0x0fffffff

struct segment {
	__u32 seq, ack;		/* as they came in */
	__u32 len;		/* of the payload */
	__u32 span;		/* payload, SYN and FIN */
	__u32 now;
	__u32 flags, sign;
	__u32 cookie;		/* it shows a Fast Open cookie granted to the peer */
	__u32 first;		/* the first fragment: len and span are the most they can be */
	__u32 have;		/* of the payload, in this fragment */
};

static __always_inline int before(__u32 a, __u32 b) { return (__s32)(a - b) < 0; }
static __always_inline int within(__u32 lo, __u32 a, __u32 hi) { return a - lo <= hi - lo; }

/* Both sides have closed, so the ports may be used again. */
static __always_inline int over(struct conn *c)
{
	return c->state == RESET || (c->flags & (FIN_OUT | FIN_IN)) == (FIN_OUT | FIN_IN);
}

/* Both directions of a connection may be on two processors at once: what both
 * change is changed atomically, so that nothing one of them did is undone. */

/* Moves the end of what was sent or acknowledged forward. */
static __always_inline void raise(__u32 *end, __u32 to)
{
	for (int i = 0; i < 4; i++) {
		__u32 was = *(volatile __u32 *)end;
		if (!before(was, to) || __sync_val_compare_and_swap(end, was, to) == was)
			return;
	}
}

/* Where the nth octet of a word lies in it. */
static __always_inline __u32 shift_of(__u32 nth)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return 8 * nth;
#else
	return 24 - 8 * nth;
#endif
}

/* Takes one from an octet, the nth of a word; 0 where none is left. */
static __always_inline int take(__u32 *word, __u32 nth)
{
	__u32 shift = shift_of(nth);

	for (int i = 0; i < 4; i++) {
		__u32 was = *(volatile __u32 *)word;
		if (!(was >> shift & 255))
			return 0;
		if (__sync_val_compare_and_swap(word, was, was - (1U << shift)) == was)
			return 1;
	}
	return 0;	/* others are faster: the packet is lost */
}

/* Adds one to an octet that is below most. */
static __always_inline void give(__u32 *word, __u32 nth, __u32 most)
{
	__u32 shift = shift_of(nth);

	for (int i = 0; i < 4; i++) {
		__u32 was = *(volatile __u32 *)word;
		if ((was >> shift & 255) >= most || __sync_val_compare_and_swap(word, was, was + (1U << shift)) == was)
			return;
	}
}

/* The word of state, flags and credits. */
static __always_inline __u32 *state_word(struct conn *c) { return (__u32 *)&c->state; }

#define NTH(field, first) (offsetof(struct conn, field) - offsetof(struct conn, first))

/* Changes the state, unless it is no more what it was when the packet was judged. */
static __always_inline int become(struct conn *c, __u32 from, __u32 to)
{
	__u32 shift = shift_of(0);

	for (int i = 0; i < 4; i++) {
		__u32 was = *(volatile __u32 *)state_word(c);
		if ((was >> shift & 255) != from)
			return 0;
		if (__sync_val_compare_and_swap(state_word(c), was, (was & ~(255U << shift)) | to << shift) == was)
			return 1;
	}
	return 0;
}

static __always_inline void note(struct conn *c, __u32 flags)
{
	if ((c->flags & flags) != flags)
		__sync_fetch_and_or(state_word(c), flags << shift_of(NTH(flags, state)));
}

/* An acknowledgement below the highest is raised to it on its way out (raised),
 * so that a host cannot choose what an answering RST carries. */
static __always_inline int acknowledge(struct conn *c, __u32 ack)
{
	__u32 lo = c->ack_hi - MAX_WINDOW;

	if (c->ack_hi - (c->isn_in + 1) < MAX_WINDOW)
		lo = c->isn_in + 1;
	if (!within(lo, ack, c->in_next))
		return ACK_RANGE;
	raise(&c->ack_hi, ack);
	return PASSED_OUT;
}

/* What is added to the acknowledgement of a segment of the host. */
static __always_inline __u32 raised(struct conn *c, struct segment *s)
{
	if (c->state == ESTABLISHED && !(s->flags & T_RST) && before(s->ack - c->in, c->ack_hi))
		return c->ack_hi - s->ack;
	return -c->in;
}

/* An answer to something that came in, of which each allows one. */
static __always_inline int owed(struct conn *c)
{
	return take(state_word(c), NTH(credits, state));
}

/* One of the segments that may leave before the peer has agreed. */
static __always_inline int granted(struct conn *c)
{
	return take((__u32 *)&c->grants, 0);
}

/* Nothing follows the host's FIN. When both sides have closed and the peer has
 * acknowledged all of it, what is left are answers. */
static __always_inline int finished(struct conn *c, struct segment *s, __u32 end)
{
	if (!(c->flags & FIN_OUT))
		return 0;
	if (before(c->out_next, end))
		return CLOSED;
	if (over(c) && c->out_una == c->out_next && (s->len || !owed(c)))
		return CLOSED;
	return 0;
}

/* A segment of the host that begins no connection. */
static __noinline int outgoing(struct conn *c, struct segment *s)
{
	__u32 seq = s->seq + c->out, ack = s->ack - c->in, end = seq + s->span;
	int why;

	if (c->state == ENDED)
		return BLOCKED;
	if (s->flags & T_RST) {
		/* A RST may have text (RFC 9293, section 3.5.3); the peer may be
		 * anybody, so it has none here. */
		if (s->len || !owed(c))
			return RESET_LIMIT;
		become(c, ESTABLISHED, RESET);
		goto passed;
	}
	if (c->state == RESET)
		return CLOSED;
	if (!(s->flags & T_ACK))
		return NO_ACK;
	if (c->state == HANDSHAKING) {
		if (!(c->flags & SYN_IN))
			return HANDSHAKE;
		if (s->flags & T_SYN) {
			/* The peer knows no more yet than that it sent a SYN. */
			if (s->len)
				return HANDSHAKE;
			if (ack != c->isn_in + 1 && ack != c->in_next)
				return ACK_RANGE;
			if (!granted(c))
				return HANDSHAKE;
			raise(&c->ack_hi, ack);
			c->isn_out = c->out_una = seq;
			c->out_next = end;
			note(c, SYN_OUT);
			goto passed;
		}
		if (!(c->flags & EARLY) || !(c->flags & SYN_OUT)) {
			/* A challenge (RFC 5961, section 4) has no data. */
			if (s->span || !owed(c))
				return HANDSHAKE;
			goto passed;
		}
		if (!within(c->isn_out, end, c->isn_out + EARLY_OCTETS) || !granted(c))
			return HANDSHAKE;
	} else if (s->flags & T_SYN && seq != c->isn_out) {
		return HANDSHAKE;
	}
	why = finished(c, s, end);
	if (why)
		return why;
	why = acknowledge(c, ack);
	if (why)
		return why;
	raise(&c->out_next, end);
	if (s->flags & T_FIN)
		note(c, FIN_OUT);
	if (c->flags & FIN_SEEN && (ack == c->fin_in || (c->fin_loose && within(c->fin_in, ack, c->fin_in + MAX_DATAGRAM))))
		note(c, FIN_IN);
passed:
	c->seen = c->sent = s->now;
	return PASSED_OUT;
}

/* Whether a RST proves that the peer saw what the host sent: of 2^32 numbers
 * one does, and another for a connection that was challenged (RFC 5961, section
 * 3.2, where an inexact one in the window is challenged; here any is). */
static __always_inline int valid_reset(struct conn *c, struct segment *s)
{
	if (c->flags & SYN_IN && s->seq == c->ack_hi)
		return 1;
	if (c->state == HANDSHAKING)
		return c->flags & SYN_OUT && s->flags & T_ACK && (s->ack == c->isn_out + 1 || s->ack == c->out_next);
	return c->flags & PROBED && s->seq == c->probe;
}

static __always_inline int reset(struct conn *c, struct segment *s)
{
	__u32 was = c->state;

	if (was == ENDED)
		return PASSED_IN;
	if (!valid_reset(c, s)) {
		give(state_word(c), NTH(inexact, state), 255);
		if (c->state == ESTABLISHED && !observe && !(c->flags & EXEMPT) && (__s32)(s->now - c->until) >= 0)
			return CHALLENGE;
		return INEXACT_RESET;
	}
	c->reopen = was == ESTABLISHED;
	c->until = s->now + block_ms;
	/* Whatever the host does at this moment, the connection is ended. */
	for (__u32 i = 0; i < 4 && !become(c, was, ENDED); i++)
		was = c->state;
	return BLOCK;
}

/* A segment of the peer that begins no connection; all pass, since the host
 * judges for itself, and what they prove is noted. */
static __noinline int incoming(struct conn *c, struct segment *s)
{
	__u32 end = s->seq + s->span;

	c->seen = s->now;
	give(state_word(c), NTH(credits, state), 255);
	if (s->flags & T_RST)
		return reset(c, s);
	if (c->state == HANDSHAKING) {
		if (!(s->flags & T_ACK) || !(c->flags & SYN_OUT) ||
		    !(s->ack == c->isn_out + 1 || s->ack == c->out_next ||
		      (c->flags & EARLY && within(c->isn_out + 1, s->ack, c->out_next))))
			return PASSED_IN;
		if (s->flags & T_SYN) {
			c->isn_in = s->seq;
			c->in_next = end;
			c->ack_hi = s->seq + 1;
			note(c, SYN_IN);
		} else if (!(c->flags & SYN_IN)) {
			return PASSED_IN;
		}
		c->until = s->now;
		become(c, HANDSHAKING, ESTABLISHED);
	}
	if (end - c->ack_hi <= MAX_WINDOW)
		raise(&c->in_next, end);
	if (s->flags & T_ACK && within(c->out_una, s->ack, c->out_next))
		c->out_una = s->ack;
	if (s->flags & T_FIN) {
		c->fin_loose = s->first != 0;
		c->fin_in = s->first ? s->seq + s->have + 1 : end;
		note(c, FIN_SEEN);
	}
	return PASSED_IN;
}

/* The peer's SYN on a connection that is known: whether it begins a new one. */
static __always_inline int syn_begins_in(struct conn *c)
{
	return c->state == ENDED || over(c);
}

/* Takes the SYN of a connection that is known and not reopened by it. */
static __always_inline void syn_in(struct conn *c, struct segment *s)
{
	c->seen = s->now;
	give(state_word(c), NTH(credits, state), 255);
	if (c->state != HANDSHAKING)
		return;
	give((__u32 *)&c->grants, 0, MOST_SYN_ACKS);
	if (c->flags & SYN_IN && s->seq == c->isn_in)
		return;
	/* Simultaneous open, or a peer that tries again with another number. */
	c->isn_in = s->seq;
	c->in_next = s->seq + s->span;
	c->ack_hi = s->seq + 1;
	note(c, SYN_IN);
	if (c->flags & EARLY)
		__sync_fetch_and_and(state_word(c), ~((__u32)EARLY << shift_of(NTH(flags, state))));
}

/* The host's SYN on a connection that is known: NO_HANDSHAKE when it begins a
 * new one. A repetition has the first one's data or none, since the peer's
 * answer acknowledges either. */
static __always_inline int syn_repeats_out(struct conn *c, struct segment *s)
{
	__u32 seq = s->seq + c->out;

	if (over(c))
		return NO_HANDSHAKE;
	if (c->state == HANDSHAKING && !(c->flags & SYN_OUT)) {
		if (s->len)
			return HANDSHAKE;
		c->isn_out = c->out_una = seq;
		c->out_next = seq + s->span;
		note(c, SYN_OUT);
	} else if (seq != c->isn_out) {
		return NO_HANDSHAKE;
	} else if (c->state == HANDSHAKING && s->len && seq + s->span != c->out_next) {
		return HANDSHAKE;
	}
	c->seen = c->sent = s->now;
	return PASSED_OUT;
}

/* Whether the peer's end of a connection keeps the host from another. One whose
 * start both had agreed to does not: a peer that has forgotten it ends it as well,
 * and can refuse the next. */
static __always_inline int barred(struct conn *c, __u32 now)
{
	return ((c->state == ENDED && !c->reopen) || c->state == HANDSHAKING) && (__s32)(c->until - now) > 0;
}

/* A new connection; old is what the ports were used for before, if it is
 * remembered. */
static __noinline void begin(struct conn *n, struct segment *s, struct conn *old, __u64 random, __u32 side)
{
	__u32 in = random >> 32, out = random;

	/* A side in TIME_WAIT accepts only numbers above the last ones. */
	if (old && side == OUT)
		out = old->out_next + 1 + (out & STEP) - s->seq;
	else if (old)
		in = old->in_next + old->in + 1 + (in & STEP) - s->seq;
	if (observe || n->flags & EXEMPT)
		in = out = 0;
	n->out = out;
	n->in = in;
	n->state = HANDSHAKING;
	n->credits = 1;
	n->seen = s->now;
	/* Anybody can send a SYN in the peer's name: until it agrees, the end of
	 * the last connection holds. */
	n->until = old && barred(old, s->now) ? old->until : s->now;
	if (side == OUT) {
		n->sent = s->now;
		n->isn_out = n->out_una = s->seq + out;
		n->out_next = n->isn_out + s->span;
		n->flags |= SYN_OUT;
		return;
	}
	n->sent = s->now - 0x7fffffff;	/* never */
	n->isn_in = s->seq;
	n->in_next = s->seq + s->span;
	n->ack_hi = s->seq + 1;
	n->flags |= SYN_IN;
	n->grants = SYN_ACKS;
	/* A peer that ended the last connection gets no data before it agrees. */
	if (s->len && s->cookie && !(old && barred(old, s->now))) {
		n->flags |= EARLY;
		n->grants = EARLY_SEGMENTS;
	}
}
