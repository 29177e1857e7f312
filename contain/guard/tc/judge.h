/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Limits and outcomes: daw/clock.go, rate.go, tier.go, spatial.go, waiting.go and
 * edge.go, which is where the reasons are. */
#pragma once

#include "tables.h"

#define UNIT 1000000000LL
#define PER_SECOND 1000000ULL
#define WHOLE 65536
#define MS 1000000
#define RATE_EVERY 100
#define JITTER 1000000000LL
#define DAY 86400000000000LL
#define LATEST (1LL << 61)	/* so that sums cannot overflow */
#define EVIDENT 600000000000LL
#define EARLY 1000000000LL

INLINE s64 lesser(s64 a, s64 b) { return a < b ? a : b; }
INLINE s64 greater(s64 a, s64 b) { return a > b ? a : b; }

/* ---- rate.go ---- */

/* For what has f, c and measured: records and entries. */
#define ADD_FAILURE(r, now, beta) do { \
	if (++(r)->c == 1) \
		(r)->measured = now; \
	if ((r)->c % RATE_EVERY == 0) { \
		u64 elapsed = greater(1, (now) - (r)->measured), m = RATE_EVERY * PER_SECOND * 1000000000ULL / elapsed; \
		if (m > ~0U) \
			m = ~0U; \
		(r)->f = (r)->c == RATE_EVERY ? m : ((beta) * (r)->f + (WHOLE - (beta)) * m) / WHOLE; \
		(r)->measured = now; \
	} } while (0)

/* 1: the request may pass; 2: the rest of the day's quota is being spread. */
INLINE int admit(s64 *tokens, s64 *at, s64 now, s64 c, s64 used, struct quota *q, s64 end)
{
	s64 rest = q->omega - used, most = greater(*tokens, lesser(q->size, rest * UNIT / 2));
	s64 elapsed = now > *at ? (u64)(now - *at) / MS : 0, gain = 0;
	int spread = 0;

	if (2 * c >= rest) {
		s64 left = end > *at ? (u64)(end - *at) / MS : 0;
		spread = 2;
		if (left > 0) {
			u64 need = greater(0, (rest - c) * UNIT - *tokens), past = lesser(elapsed, left);
			gain = need / left * past + need % left * past / left;
		}
	} else {
		gain = q->refill * lesser(elapsed, (u64)q->size / q->refill + 1);
	}
	*tokens = lesser(*tokens + gain, most);
	*at += elapsed * MS;
	return (*tokens >= UNIT) | spread;
}

/* ---- tier.go ---- */

INLINE s64 used_of(struct limits *l, u32 tier, u32 slot)
{
	s64 allowed = l->quotas[tier].omega;
	struct history *h;

	if (!l->weekly[tier] && !l->monthly[tier])
		return 0;
	h = the_history(tier * l->records + slot);
	if (!h)
		return 0;
	if (l->weekly[tier])
		allowed = lesser(allowed, l->weekly[tier] - h->weekly);
	if (l->monthly[tier])
		allowed = lesser(allowed, l->monthly[tier] - h->monthly);
	return l->quotas[tier].omega - greater(0, allowed);
}

INLINE int is_over(struct quota *q, struct record *r, s64 used)
{
	return r->f > q->rate || 2 * (s64)r->c >= q->omega - used;
}

INLINE void start_limit(struct record *r, s64 now)
{
	r->flags |= LIMITED;
	r->tokens = 0;
	r->at = now;
}

/* Whether the temporal limit lets a source with a record pass. */
__noinline int admit_source(u32 tier)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);

	if (!l || !e || tier >= TIERS)
		return 1;
	u32 slot = e->slot[tier];
	struct record *r = the_record(tier * l->records + slot);
	if (!r)
		return 1;
	struct quota *q = &l->quotas[tier];
	s64 used = used_of(l, tier, slot);
	if (!(r->flags & LIMITED)) {
		if (!is_over(q, r, used))
			return 1;
		start_limit(r, e->now);
	}
	int ok = admit(&r->tokens, &r->at, e->now, r->c, used, q, e->end);
	if (ok == 2)
		r->flags |= AT_LIMIT;
	return ok & 1;
}

/* Counts a failure of the source that find_source found. */
__noinline int count_source(u32 tier, u64 hi, u64 lo, u32 spatial)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);

	if (!l || !e || tier >= TIERS)
		return 0;
	struct quota *q = &l->quotas[tier];
	struct entry *en = the_entry(e->entry[tier]);
	if (!en)
		return 0;
	ADD_FAILURE(en, e->now, l->beta);
	if (en->f > q->rate || en->c > q->omega)
		en->promoted = 1;
	int fresh = 0;
	if (e->slot[tier] == NONE) {
		if (!en->promoted && !spatial && !(l->list_all && tier == HOSTS))
			return 0;
		if (!open_record(tier, hi, lo))
			return 0;
		fresh = 1;
	}
	u32 slot = e->slot[tier];
	struct record *r = the_record(tier * l->records + slot);
	if (!r)
		return 0;
	if (fresh && spatial)
		r->flags |= LATE;
	ADD_FAILURE(r, e->now, l->beta);
	if (r->flags & LIMITED)
		r->tokens -= UNIT;
	else if (is_over(q, r, used_of(l, tier, slot)))
		start_limit(r, e->now);
	if ((s64)r->c >= q->omega - 1)
		r->flags |= AT_LIMIT;
	return 1;
}

/* ---- the outcome of requests ---- */

INLINE u64 service_hi(u64 hi, u16 port) { return hi ^ (u64)port << 48 ^ 1; }
INLINE u32 today(struct edge *e) { return SERVICES0 + (e->current & 1); }
INLINE u32 before(struct edge *e) { return SERVICES1 - (e->current & 1); }

INLINE u64 hash_conn(struct limits *l, struct conn *c)
{
	u64 ports = (u64)c->sport << 16 | c->dport;

	return fold(hash_key(c->src.hi, c->src.lo, l->seed) ^ ports, hash_key(c->dst.hi, c->dst.lo, l->seed ^ 0x8ebc6af09c88c6e3));
}

INLINE u64 site_of(u64 hi, u64 lo, u64 *low)
{
	if (is4(hi, lo)) {
		*low = lo & ~0xffULL;
		return hi;
	}
	*low = 0;
	return hi & ~0xffffULL;
}

INLINE void count_members(struct edge *e, struct limits *l, struct record *r)
{
	u32 failures = 1;

	if (!e->active || r->c <= l->tau)
		return;
	if (!(r->flags & MEMBER)) {
		r->flags |= MEMBER;
		e->members++;
		if (r->flags & LATE)
			failures = r->c;
	}
	e->count += failures;
	e->tokens -= failures * UNIT;
}

INLINE u64 prefix_of(u64 hi, u32 tier) { return tier == NET64 ? hi : tier == NET56 ? hi & ~0xffULL : hi & ~0xffffULL; }

/* Counts a failure of the connection at hand. */
__noinline int count_failure(u32 kind)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);

	if (!l || !e)
		return IGNORED;
	struct conn *c = &e->conn;
	u64 hi = c->src.hi, lo = c->src.lo, low;
	s64 now = e->now;
	u32 slot = find_source(HOSTS, hi, lo);
	int match = take_request(e->conn_hash, c->seq, kind == LOGGED);
	if (match == NO_SUCH)
		return FORGED;
	struct record *r = slot == NONE ? 0 : the_record(HOSTS * l->records + slot);
	if (match == UNKNOWN) {
		struct entry *en = the_entry(e->entry[HOSTS]);
		if (r && r->asked) {
			if (r->c + r->answered >= r->asked)
				return FORGED;
		} else if (!en || en->c + en->answered >= en->asked) {
			return FORGED;
		}
	}
	if (kind != SILENT)
		e->replied = now;
	u64 service = service_hi(c->dst.hi, c->dport);
	remove_key(SERVICES0, service, c->dst.lo);
	remove_key(SERVICES1, service, c->dst.lo);
	if (!add_key(RECENT, c->dst.hi, c->dst.lo, 0))
		return WAS_RECENT;
	u32 site = 0;
	if (l->induced > 0) {
		u64 high = site_of(c->dst.hi, c->dst.lo, &low);
		site = hash_key(high, low, l->seed ^ (u64)now / l->induced);
		if (r && r->last_site == site && r->c) {
			struct history *h = the_history(HOSTS * l->records + slot);
			if (h && h->forgiven < l->grace) {
				h->forgiven++;
				return INDUCED;
			}
		}
	}
	if (!e->active && l->phi > 0 && e->lists[RECENT - TIERS].inserted > l->phi) {
		e->tokens = e->count = e->asked = e->dropped = e->members = 0;
		e->at = now;
		e->active = 1;
	}
	int v4 = is4(hi, lo);
	if (count_source(HOSTS, hi, lo, e->active && v4)) {
		slot = e->slot[HOSTS];
		r = the_record(HOSTS * l->records + slot);
		struct history *h = the_history(HOSTS * l->records + slot);
		if (r)
			r->last_site = site;
		if (h && kind == SILENT)
			h->silent++;
	}
	u32 tier = HOSTS;
	if (!v4) {
		LOOP (tier = NET64; tier <= NET48; tier++) {
			u64 prefix = prefix_of(hi, tier);
			find_source(tier, prefix, 0);
			count_source(tier, prefix, 0, e->active && tier == NET48);
		}
		tier = NET48;
	}
	slot = e->slot[tier & 3];
	r = slot == NONE ? 0 : the_record((tier & 3) * l->records + slot);
	if (r)
		count_members(e, l, r);
	return COUNTED;
}

__noinline int judge_limits(void)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);

	if (!l || !e)
		return FORWARD;
	u64 hi = e->conn.src.hi, lo = e->conn.src.lo;
	u32 slot = find_source(HOSTS, hi, lo), unit = HOSTS;
	if (slot != NONE && !admit_source(HOSTS))
		return TEMPORAL;
	if (!is4(hi, lo)) {
		LOOP (u32 tier = NET64; tier <= NET48; tier++) {
			slot = find_source(tier, prefix_of(hi, tier), 0);
			if (slot != NONE && !admit_source(tier))
				return NETWORK64 + tier - NET64;
		}
		unit = NET48;
	}
	if (slot == NONE || !e->active)
		return FORWARD;
	struct record *r = the_record(unit * l->records + slot);
	if (!r || r->c <= l->tau)
		return FORWARD;
	e->asked++;
	if (admit(&e->tokens, &e->at, e->now, e->count, 0, &l->network, e->end) & 1)
		return FORWARD;
	e->dropped++;
	r->flags |= AT_LIMIT;
	return SPATIAL;
}

INLINE void count_asked(struct limits *l, struct edge *e, int answered)
{
	u32 slot = e->slot[HOSTS];
	struct record *r;
	struct entry *en;

	if (slot != NONE) {
		r = the_record(HOSTS * l->records + slot);
		if (r && answered)
			r->answered++;
		else if (r)
			r->asked++;
		return;
	}
	en = the_entry(e->entry[HOSTS]);
	if (en && answered)
		en->answered++;
	else if (en)
		en->asked++;
}

INLINE void wait_for_reply(struct limits *l, struct edge *e)
{
	u32 n = l->waiting;

	if (!n || !l->silence)
		return;
	u32 at = e->first + e->used;
	struct pending *p = the_pending(at >= n ? at - n : at);
	if (!p)
		return;
	p->src = e->conn.src;
	p->dst = e->conn.dst;
	p->hash = e->conn_hash;
	p->at = e->now;
	p->seq = e->conn.seq;
	p->sport = e->conn.sport;
	p->dport = e->conn.dport;
	e->used++;
}

/* A SYN from the customer network; refused is BLOCKED or SPOOFED, or 0. */
__noinline int judge_request(u32 refused)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);
	u32 v = refused;

	if (!l || !e)
		return FORWARD;
	struct conn *c = &e->conn;
	if (!v) {
		v = judge_limits();
		u64 service = service_hi(c->dst.hi, c->dport);
		if (v != FORWARD && (has_key(SERVICES0, service, c->dst.lo) || has_key(SERVICES1, service, c->dst.lo))) {
			e->counts.known++;
			v = FORWARD;
		}
	}
	if (v >= VERDICTS)
		return v;
	e->counts.verdicts[v]++;
	if (v == FORWARD && add_request(e->conn_hash, c->seq)) {
		e->counts.requests++;
		count_asked(l, e, 0);
		wait_for_reply(l, e);
	}
	return v;
}

__noinline int count_success(void)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);

	if (!l || !e)
		return IGNORED;
	struct conn *c = &e->conn;
	find_source(HOSTS, c->src.hi, c->src.lo);
	if (take_request(e->conn_hash, c->seq, 0) == NO_SUCH)
		return FORGED;
	e->replied = e->now;
	add_key(today(e), service_hi(c->dst.hi, c->dport), c->dst.lo, c->dport);
	e->counts.successes++;
	count_asked(l, e, 1);
	return COUNTED;
}

/* ---- time ---- */

struct midnight { u32 tier; s64 midnights; };

static long end_entry(u32 i, struct midnight *m)
{
	struct limits *l = the_limits(0);
	struct entry *en;

	if (!l || m->tier >= TIERS)
		return 1;
	en = the_entry(m->tier * l->entries + i);
	if (!en)
		return 1;
	if (en->c < RATE_EVERY)
		en->f = 0;
	en->c = en->asked = en->answered = 0;
	en->promoted = en->f > l->quotas[m->tier].rate;
	return 0;
}

static long end_record(u32 slot, struct midnight *m)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);
	u32 tier = m->tier;

	if (!l || !e || tier >= TIERS)
		return 1;
	struct record *r = the_record(tier * l->records + slot);
	struct history *h = the_history(tier * l->records + slot);
	if (!r || !h)
		return 1;
	if (!(r->flags & LIVE))
		return 0;
	int quiet = !r->c;
	h->weekly += r->c;
	h->monthly += r->c;
	if ((u64)e->day / 7 != (u64)(e->day - m->midnights) / 7)
		h->weekly = 0;
	if ((u64)e->day / 30 != (u64)(e->day - m->midnights) / 30)
		h->monthly = 0;
	h->forgiven = 0;
	h->silent = 0;
	if (!(r->flags & AT_LIMIT) || m->midnights > 1)
		r->days = 0;
	else if (r->days < 250)
		r->days++;
	if (!r->days)
		r->flags &= ~PROPOSED;
	if (r->c < RATE_EVERY)
		r->f = 0;
	r->c = 0;
	r->flags &= ~(AT_LIMIT | LIMITED | MEMBER | LATE);
	if (r->f > l->quotas[tier].rate)
		r->flags |= LIMITED;
	r->tokens = 0;
	r->at = e->end - DAY;
	r->asked = r->answered = 0;
	if (quiet && !(l->weekly[tier] && h->weekly) && !(l->monthly[tier] && h->monthly)) {
		u64 hash = hash_key(r->key.hi, r->key.lo, l->tables[tier].seed);
		u64 *spare = the_spare(tier * l->records + e->spare[tier]);
		unkeep(l, tier, hash);
		remove_slot(tier, slot, hash);
		__builtin_memset(r, 0, sizeof(*r));
		if (spare) {
			*spare = slot;
			e->spare[tier]++;
		}
	}
	return 0;
}

__noinline int begin_day(s64 midnights)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);
	struct midnight m = { .midnights = midnights };

	if (!l || !e)
		return 0;
	LOOP (u32 tier = 0; tier < TIERS; tier++) {
		m.tier = tier;
		bpf_loop(l->entries, end_entry, &m, 0);
		bpf_loop(e->n[tier], end_record, &m, 0);
	}
	clear_list(RECENT);
	e->current ^= 1;
	clear_list(today(e));
	if (midnights > 1)
		clear_list(before(e));
	e->tokens = e->at = 0;
	e->count = e->asked = e->dropped = 0;
	e->members = e->active = 0;
	e->previous = e->counts;
	__builtin_memset(&e->counts, 0, sizeof(e->counts));
	e->counts.day = e->day;
	return 0;
}

static long count_silence(u32 i, void *ctx)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);

	if (!l || !e || !e->used)
		return 1;
	struct pending *p = the_pending(e->first);
	if (!p || (e->now - p->at < l->silence && e->used < l->waiting))
		return 1;
	e->first = e->first + 1 >= l->waiting ? 0 : e->first + 1;
	e->used--;
	if (e->now - p->at < lesser(EARLY, l->silence) || e->now - e->replied > EVIDENT || e->now < e->paused || !is_waiting(p->hash, p->seq))
		return 0;
	e->conn.src = p->src;
	e->conn.dst = p->dst;
	e->conn.seq = p->seq;
	e->conn.sport = p->sport;
	e->conn.dport = p->dport;
	e->conn_hash = p->hash;
	u32 o = count_failure(SILENT);
	if (o < OUTCOMES)
		e->counts.outcomes[o]++;
	if (o == COUNTED)
		e->counts.silences++;
	return 0;
}

INLINE s64 day_of(struct limits *l, s64 told) { return told > l->midnight ? (u64)(told - l->midnight) / DAY : 0; }
INLINE void set_day(struct limits *l, struct edge *e, s64 n)
{
	e->day = n;
	e->end = (n + 1) * DAY + l->midnight + e->shift;
}

/* Takes the reported time, and begins a day that is due. */
__noinline int advance(s64 told)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);

	if (!l || !e)
		return 0;
	if (told > LATEST)
		told = LATEST;
	s64 back = e->now - (told + e->shift);
	if (back <= 0) {
		e->now = told + e->shift;
	} else if (back > JITTER) {
		e->shift += back;
		e->steps++;
		s64 n = day_of(l, told);
		if (n <= e->day) {
			s64 start = e->end - DAY;
			set_day(l, e, n);
			if (e->end - start < DAY - JITTER)
				set_day(l, e, n + 1);
			return 0;
		}
	}
	if (e->now >= e->end) {
		s64 n = day_of(l, e->now - e->shift), was = e->day;
		set_day(l, e, n);
		/* A day that does not advance begins no other (clock.advance returns 0). */
		if (n > was)
			begin_day(n - was);
	}
	return 0;
}

/* Does what is due by the reported time. It is not one function, since calls nest no
 * deeper than eight. */
INLINE void advance_clock(struct limits *l, struct edge *e, s64 told)
{
	advance(told);
	if (e->used)
		bpf_loop(l->waiting, count_silence, 0, 0);
}
