/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Hashes, indexes, and lists: daw/key.go, index.go, records.go, recent.go,
 * answered.go and requests.go. */
#pragma once

#include "maps.h"

/* An index is at most half full, so that no run of used cells is as long. */
#define MAX_PROBE 1024
#define LOOP _Pragma("clang loop unroll(disable)") for

/* Loops that the verifier walks once (Linux 6.4). */
struct bpf_iter_num { __u64 opaque; } __attribute__((aligned(8)));
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;

#define EACH(i, n) for ( \
	struct bpf_iter_num it_ __attribute__((aligned(8), cleanup(bpf_iter_num_destroy))), \
	*unused_ __attribute__((unused)) = (bpf_iter_num_new(&it_, 0, n), (void)bpf_iter_num_destroy, (void *)0); \
	({ int *t_ = bpf_iter_num_next(&it_); t_ ? (i = *t_, (void)i, 1) : 0; });)

INLINE u64 fold(u64 a, u64 b)
{
	u64 a0 = (u32)a, a1 = a >> 32, b0 = (u32)b, b1 = b >> 32;
	u64 p00 = a0 * b0, p01 = a0 * b1, p10 = a1 * b0, p11 = a1 * b1;
	u64 mid = (p00 >> 32) + (u32)p01 + (u32)p10;

	return (p11 + (p01 >> 32) + (p10 >> 32) + (mid >> 32)) ^ (a * b);
}

INLINE u64 hash_key(u64 hi, u64 lo, u64 seed)
{
	u64 h = fold(hi ^ seed ^ 0xa0761d6478bd642f, lo ^ (seed << 32 | seed >> 32) ^ 0x9e3779b97f4a7c15);

	return fold(h ^ seed, 0xe7037ed1a0b428db);
}

INLINE int is4(u64 hi, u64 lo) { return !hi && lo >> 32 == 0xffff; }

/* The key in a slot of a table. */
INLINE struct key *key_at(struct limits *l, u32 table, u32 slot)
{
	if (table < TIERS) {
		struct record *r = the_record(table * l->records + slot);
		return r ? &r->key : 0;
	}
	return the_key(l->tables[table].keys + slot);
}

__noinline u32 find_slot(u32 table, u64 hi, u64 lo, u64 hash)
{
	struct limits *l = the_limits(0);

	if (!l || table >= TABLES)
		return NONE;
	u32 base = l->tables[table].cells, mask = l->tables[table].mask;
	u32 i = 0;
	EACH (i, MAX_PROBE) {
		u64 *cell = the_cell(base + (((u32)hash + i) & mask));
		if (!cell || !*cell)
			return NONE;
		if (*cell >> 32 != hash >> 32)
			continue;
		u32 slot = (u32)*cell - 1;
		struct key *k = key_at(l, table, slot);
		if (k && k->hi == hi && k->lo == lo)
			return slot;
	}
	return NONE;
}

__noinline int add_slot(u32 table, u32 slot, u64 hash)
{
	struct limits *l = the_limits(0);

	if (!l || table >= TABLES)
		return 0;
	u32 base = l->tables[table].cells, mask = l->tables[table].mask;
	u32 i = 0;
	EACH (i, MAX_PROBE) {
		u64 *cell = the_cell(base + (((u32)hash + i) & mask));
		if (!cell)
			return 0;
		if (!*cell) {
			*cell = hash >> 32 << 32 | (slot + 1);
			return 1;
		}
	}
	return 0;
}

/* Removes a slot, whose key has this hash, and closes the gap. */
__noinline int remove_slot(u32 table, u32 slot, u64 hash)
{
	struct limits *l = the_limits(0);
	u64 want = hash >> 32 << 32 | (slot + 1), *hole = 0;
	u32 at = 0;

	if (!l || table >= TABLES)
		return 0;
	u32 base = l->tables[table].cells, mask = l->tables[table].mask;
	u64 seed = l->tables[table].seed;
	u32 i = 0;
	EACH (i, 2 * MAX_PROBE) {
		u32 here = ((u32)hash + i) & mask;
		u64 *cell = the_cell(base + here);
		if (!cell || !*cell)
			break;
		if (!hole) {
			if (*cell == want) {
				hole = cell;
				at = here;
			}
			continue;
		}
		struct key *k = key_at(l, table, (u32)*cell - 1);
		if (!k)
			break;
		u32 home = hash_key(k->hi, k->lo, seed);
		/* It may move into the hole unless its home lies between them. */
		if (((here - home) & mask) >= ((here - at) & mask)) {
			*hole = *cell;
			hole = cell;
			at = here;
		}
	}
	if (hole)
		*hole = 0;
	return 0;
}

/* ---- lists: RFAL, and the services that answered ---- */

INLINE int has_key(u32 table, u64 hi, u64 lo)
{
	struct limits *l = the_limits(0);

	return l && find_slot(table, hi, lo, hash_key(hi, lo, l->tables[table].seed)) != NONE;
}

/* Whether a key is new to a list; if so, it replaces the oldest. port is kept with
 * a service. */
__noinline int add_key(u32 table, u64 hi, u64 lo, u32 port)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);

	if (!l || !e || table < TIERS || table >= TABLES)
		return 0;
	u64 seed = l->tables[table].seed, hash = hash_key(hi, lo, seed);
	struct list *list = &e->lists[table - TIERS];
	u32 slot = list->next, base = l->tables[table].keys, size = l->tables[table].size;
	struct key *k = the_key(base + slot);

	if (!size || !k || find_slot(table, hi, lo, hash) != NONE)
		return 0;
	if (list->full)
		remove_slot(table, slot, hash_key(k->hi, k->lo, seed));
	k->hi = hi;
	k->lo = lo;
	if (table != RECENT) {
		u64 *p = the_service(base + slot);
		if (p)
			*p = port;
	}
	add_slot(table, slot, hash);
	if (++slot == size) {
		slot = 0;
		list->full = 1;
	}
	list->next = slot;
	list->inserted++;
	return 1;
}

__noinline int remove_key(u32 table, u64 hi, u64 lo)
{
	struct limits *l = the_limits(0);

	if (!l || table < TIERS || table >= TABLES)
		return 0;
	u64 hash = hash_key(hi, lo, l->tables[table].seed);
	u32 slot = find_slot(table, hi, lo, hash);
	struct key *k = the_key(l->tables[table].keys + slot);

	if (slot == NONE || !k)
		return 0;
	remove_slot(table, slot, hash);
	k->hi = k->lo = 0;
	return 1;
}

static long clear_cell(u32 i, u32 *base)
{
	u64 *cell = the_cell(*base + i);
	if (cell)
		*cell = 0;
	return 0;
}

static long clear_key(u32 i, u32 *base)
{
	struct key *k = the_key(*base + i);
	if (k)
		k->hi = k->lo = 0;
	return 0;
}

__noinline int clear_list(u32 table)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);

	if (!l || !e || table < TIERS || table >= TABLES)
		return 0;
	u32 cells = l->tables[table].cells, keys = l->tables[table].keys;
	bpf_loop(l->tables[table].mask + 1, clear_cell, &cells, 0);
	bpf_loop(l->tables[table].size, clear_key, &keys, 0);
	struct list *list = &e->lists[table - TIERS];
	list->next = list->full = 0;
	list->inserted = 0;
	return 0;
}

/* ---- records ---- */

/* Makes the counters of a source in a tier those that the functions below work on. */
__noinline u32 find_source(u32 tier, u64 hi, u64 lo)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);

	if (!l || !e || tier >= TIERS)
		return NONE;
	u64 hash = hash_key(hi, lo, l->tables[tier].seed);
	u32 at = tier * l->entries + (u32)((hash >> 32) * l->entries >> 32), slot = NONE;
	struct entry *en = the_entry(at);

	if (en && en->kept)
		slot = find_slot(tier, hi, lo, hash);
	e->source_hash[tier] = hash;
	e->entry[tier] = at;
	e->slot[tier] = slot;
	return slot;
}

INLINE void unkeep(struct limits *l, u32 tier, u64 hash)
{
	struct entry *en = the_entry(tier * l->entries + (u32)((hash >> 32) * l->entries >> 32));
	if (en)
		en->kept--;
}

/* The smallest counter among a few records drawn at random. */
static __always_inline u32 choose_evicted(u32 tier)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);
	u64 least = ~0ULL;
	u32 best = 0;

	if (!l || !e || tier >= TIERS || !e->n[tier])
		return 0;
	u32 i = 0;
	EACH (i, 8) {
		u64 draw = e->draw[tier] * 6364136223846793005ULL + 1442695040888963407ULL;
		u32 slot = (draw >> 33) % e->n[tier];
		struct record *r = the_record(tier * l->records + slot);
		e->draw[tier] = draw;
		if (r && (r->c | (u64)r->days << 32) < least) {
			best = slot;
			least = r->c | (u64)r->days << 32;
		}
	}
	return best;
}

/* Frees the slot of a record that matters little. */
__noinline u32 evict(u32 tier)
{
	struct limits *l = the_limits(0);

	if (!l || tier >= TIERS)
		return 0;
	u32 slot = choose_evicted(tier);
	struct record *old = the_record(tier * l->records + slot);
	if (!old)
		return 0;
	u64 hash = hash_key(old->key.hi, old->key.lo, l->tables[tier].seed);
	remove_slot(tier, slot, hash);
	unkeep(l, tier, hash);
	return slot;
}

/* Gives the source that find_source found a record. */
__noinline int open_record(u32 tier, u64 hi, u64 lo)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);
	u32 slot;

	if (!l || !e || tier >= TIERS)
		return 0;
	if (e->spare[tier]) {
		u64 *spare = the_spare(tier * l->records + e->spare[tier] - 1);
		if (!spare)
			return 0;
		slot = *spare;
		e->spare[tier]--;
	} else if (e->n[tier] < l->records) {
		slot = e->n[tier]++;
	} else {
		slot = evict(tier);
	}
	struct record *r = the_record(tier * l->records + slot);
	struct history *h = the_history(tier * l->records + slot);
	struct entry *en = the_entry(e->entry[tier]);
	if (!r || !h || !en)
		return 0;
	__builtin_memset(r, 0, sizeof(*r));
	__builtin_memset(h, 0, sizeof(*h));
	r->key.hi = hi;
	r->key.lo = lo;
	r->flags = LIVE;
	add_slot(tier, slot, e->source_hash[tier]);
	en->kept++;
	e->slot[tier] = slot;
	return 1;
}

/* ---- requests ---- */

enum { UNKNOWN, NO_SUCH, MATCHED };

INLINE u32 tick_of(struct edge *e, s64 now) { return (u64)(now - e->epoch) / 100000000 + 1; }
INLINE u32 age_of(u32 at, u32 tick) { return at ? tick - at : ~0U; }

INLINE struct line *line_of(struct limits *l, u64 hash) { return the_line((u32)hash & (l->lines - 1)); }

/* Whether a request is new rather than a retransmission. */
__noinline int add_request(u64 hash, u32 seq)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);
	u32 tag = hash >> 32, oldest = 0, most = 0;

	if (!l || !e)
		return 0;
	if (!l->lines)
		return 1;
	struct line *line = line_of(l, hash);
	if (!line)
		return 0;
	u32 tick = tick_of(e, e->now);
#pragma unroll
	for (u32 i = 0; i < 5; i++) {
		struct request *q = &line->requests[i];
		if (q->tag == tag && q->seq == seq && q->at && tick - q->at <= l->life) {
			q->at = tick;
			return 0;
		}
		if (!i || age_of(q->at, tick) > most) {
			oldest = i;
			most = age_of(q->at, tick);
		}
	}
#pragma unroll
	for (u32 i = 0; i < 5; i++) {	/* an index that is known */
		struct request *q = &line->requests[i];
		if (i != oldest)
			continue;
		if (q->at && tick - q->at <= l->life)
			line->lost = q->at + l->life;
		q->tag = tag;
		q->seq = seq;
		q->at = tick;
	}
	return 1;
}

/* Finds the request that a reply belongs to, and removes it. */
__noinline int take_request(u64 hash, u32 seq, u32 any)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);

	if (!l || !e || !l->lines)
		return UNKNOWN;
	struct line *line = line_of(l, hash);
	if (!line)
		return UNKNOWN;
	u32 tick = tick_of(e, e->now), tag = hash >> 32;
#pragma unroll
	for (u32 i = 0; i < 5; i++) {
		struct request *q = &line->requests[i];
		if (q->at && q->tag == tag && tick - q->at <= l->life && (any || q->seq == seq)) {
			q->tag = q->seq = q->at = 0;
			return MATCHED;
		}
	}
	return line->lost && (__s32)(line->lost - tick) >= 0 ? UNKNOWN : NO_SUCH;
}

__noinline int is_waiting(u64 hash, u32 seq)
{
	struct limits *l = the_limits(0);
	struct edge *e = the_edge(0);

	if (!l || !e || !l->lines)
		return 0;
	struct line *line = line_of(l, hash);
	if (!line)
		return 0;
	u32 tick = tick_of(e, e->now), tag = hash >> 32;
#pragma unroll
	for (u32 i = 0; i < 5; i++) {
		struct request *q = &line->requests[i];
		if (q->at && q->tag == tag && q->seq == seq && tick - q->at <= l->life)
			return 1;
	}
	return 0;
}
