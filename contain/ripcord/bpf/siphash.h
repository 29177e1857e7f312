/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* SipHash-2-4 (Aumasson and Bernstein, 2012) of six words, which is what a
 * nonce is drawn from. The kernel's own random numbers for programs are no
 * secret. */
#pragma once

#include "maps.h"

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIPROUND do { \
	v0 += v1; v1 = ROTL(v1, 13); v1 ^= v0; v0 = ROTL(v0, 32); \
	v2 += v3; v3 = ROTL(v3, 16); v3 ^= v2; \
	v0 += v3; v3 = ROTL(v3, 21); v3 ^= v0; \
	v2 += v1; v1 = ROTL(v1, 17); v1 ^= v2; v2 = ROTL(v2, 32); \
} while (0)

#define SIP_WORDS 6

static __noinline __u64 siphash(struct secret *key, __u64 *m)
{
	__u64 v0 = key->k0 ^ 0x736f6d6570736575ULL, v1 = key->k1 ^ 0x646f72616e646f6dULL;
	__u64 v2 = key->k0 ^ 0x6c7967656e657261ULL, v3 = key->k1 ^ 0x7465646279746573ULL;

	for (int i = 0; i < SIP_WORDS; i++) {
		v3 ^= m[i];
		SIPROUND; SIPROUND;
		v0 ^= m[i];
	}
	__u64 last = (__u64)(SIP_WORDS * 8) << 56;
	v3 ^= last;
	SIPROUND; SIPROUND;
	v0 ^= last;
	v2 ^= 0xff;
	SIPROUND; SIPROUND; SIPROUND; SIPROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}
