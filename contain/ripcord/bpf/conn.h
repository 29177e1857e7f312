/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* One TCP connection: what may pass, and what a RST must hold to end it. */
#pragma once

#include "maps.h"

#define T_FIN 1
#define T_SYN 2
#define T_RST 4
#define T_ACK 16

/* Acknowledgements are remembered for one to two spells of this length, ms. */
#define RECENT 3000
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
};

static __always_inline int before(__u32 a, __u32 b) { return (__s32)(a - b) < 0; }
static __always_inline int within(__u32 lo, __u32 a, __u32 hi) { return a - lo <= hi - lo; }

/* Both sides have closed, so the ports may be used again. */
static __always_inline int over(struct conn *c)
{
	return c->state == RESET || (c->flags & (FIN_OUT | FIN_IN)) == (FIN_OUT | FIN_IN);
}

/* The lowest acknowledgement let out recently. */
static __always_inline __u32 lowest(struct conn *c, __u32 now)
{
	__u32 age = now - c->lo_since;

	if (age >= 2 * RECENT)
		return c->ack_hi;
	if (age >= RECENT)
		return c->lo_cur;
	return before(c->lo_prev, c->lo_cur) ? c->lo_prev : c->lo_cur;
}

static __always_inline int acknowledge(struct conn *c, __u32 ack, __u32 now)
{
	__u32 age = now - c->lo_since;

	if (age >= RECENT) {
		c->lo_prev = age < 2 * RECENT ? c->lo_cur : c->ack_hi;
		c->lo_cur = c->ack_hi;
		c->lo_since = now;
	}
	__u32 lo = before(c->lo_prev, c->lo_cur) ? c->lo_prev : c->lo_cur;
	if (!within(lo, ack, c->in_next))
		return ACK_RANGE;
	if (before(c->ack_hi, ack))
		c->ack_hi = ack;
	if (before(ack, c->lo_cur))
		c->lo_cur = ack;
	return PASSED_OUT;
}

/* An answer to something that came in, of which each allows one. */
static __always_inline int owed(struct conn *c)
{
	if (!c->credits)
		return 0;
	c->credits--;
	return 1;
}

/* A segment of the host that begins no connection. */
static __noinline int outgoing(struct conn *c, struct segment *s)
{
	__u32 seq = s->seq + c->out, ack = s->ack - c->in, end = seq + s->span;
	int why;

	if (c->state == ENDED)
		return BLOCKED;
	if (s->flags & T_RST) {
		if (!owed(c))
			return RESET_LIMIT;
		if (c->state == ESTABLISHED)
			c->state = RESET;
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
			why = acknowledge(c, ack, s->now);
			if (why)
				return why;
			c->isn_out = c->out_una = seq;
			c->out_next = end;
			c->flags |= SYN_OUT;
			goto passed;
		}
		if (!(c->flags & EARLY) || !(c->flags & SYN_OUT)) {
			/* A challenge (RFC 5961, section 4) has no data. */
			if (s->span || !owed(c))
				return HANDSHAKE;
			goto passed;
		}
	} else if (s->flags & T_SYN && seq != c->isn_out) {
		return HANDSHAKE;
	}
	why = acknowledge(c, ack, s->now);
	if (why)
		return why;
	if (before(c->out_next, end))
		c->out_next = end;
	if (s->flags & T_FIN)
		c->flags |= FIN_OUT;
	if (c->flags & FIN_SEEN && ack == c->fin_in)
		c->flags |= FIN_IN;
passed:
	c->seen = c->sent = s->now;
	return PASSED_OUT;
}

/* Whether a RST proves that the peer saw what the host sent. */
static __always_inline int valid_reset(struct conn *c, struct segment *s)
{
	__u32 first = c->out_una;

	if (!(c->flags & SYN_OUT))
		/* Nothing went out yet; who sent the SYN knows its number. */
		return s->seq == c->ack_hi;
	if (c->flags & SYN_IN && within(lowest(c, s->now), s->seq, c->ack_hi))
		return 1;
	if (c->state == HANDSHAKING)
		first = c->isn_out + 1;
	return s->flags & T_ACK && within(first, s->ack, c->out_next);
}

static __always_inline int reset(struct conn *c, struct segment *s)
{
	if (c->state == ENDED)
		return PASSED_IN;
	if (!valid_reset(c, s)) {
		if (c->inexact < 255)
			c->inexact++;
		return INEXACT_RESET;
	}
	c->state = ENDED;
	c->until = s->now + block_ms;
	return BLOCK;
}

/* A segment of the peer that begins no connection; all pass, since the host
 * judges for itself, and what they prove is noted. */
static __noinline int incoming(struct conn *c, struct segment *s)
{
	__u32 end = s->seq + s->span;

	c->seen = s->now;
	if (c->credits < 255)
		c->credits++;
	if (s->flags & T_RST)
		return reset(c, s);
	if (c->state == HANDSHAKING) {
		if (!(s->flags & T_ACK) || !(c->flags & SYN_OUT) || !within(c->isn_out + 1, s->ack, c->out_next))
			return PASSED_IN;
		if (s->flags & T_SYN) {
			c->isn_in = s->seq;
			c->in_next = end;
			c->ack_hi = c->lo_cur = c->lo_prev = s->seq + 1;
			c->lo_since = s->now;
			c->flags |= SYN_IN;
		} else if (!(c->flags & SYN_IN)) {
			return PASSED_IN;
		}
		c->state = ESTABLISHED;
	}
	if (before(c->in_next, end) && end - c->ack_hi <= MAX_WINDOW)
		c->in_next = end;
	if (s->flags & T_ACK && within(c->out_una, s->ack, c->out_next))
		c->out_una = s->ack;
	if (s->flags & T_FIN) {
		c->fin_in = end;
		c->flags |= FIN_SEEN;
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
	if (c->credits < 255)
		c->credits++;
	if (c->state != HANDSHAKING || (c->flags & SYN_IN && s->seq == c->isn_in))
		return;
	/* Simultaneous open, or a peer that tries again with another number. */
	c->isn_in = s->seq;
	c->in_next = s->seq + s->span;
	c->ack_hi = c->lo_cur = c->lo_prev = s->seq + 1;
	c->lo_since = s->now;
	c->flags |= SYN_IN;
}

/* The host's SYN on a connection that is known: 1 when it is the same one. */
static __always_inline int syn_repeats_out(struct conn *c, struct segment *s)
{
	__u32 seq = s->seq + c->out;

	if (over(c))
		return 0;
	if (c->state == HANDSHAKING && !(c->flags & SYN_OUT)) {
		c->isn_out = c->out_una = seq;
		c->out_next = seq + s->span;
		c->flags |= SYN_OUT;
	} else if (seq != c->isn_out) {
		return 0;
	} else if (before(c->out_next, seq + s->span)) {
		c->out_next = seq + s->span;
	}
	c->seen = c->sent = s->now;
	return 1;
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
	n->seen = n->lo_since = s->now;
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
	n->ack_hi = n->lo_cur = n->lo_prev = s->seq + 1;
	n->flags |= SYN_IN;
	/* A peer that ended the last connection gets no data before it agrees. */
	if (s->len && !(old && old->state == ENDED))
		n->flags |= EARLY;
}
