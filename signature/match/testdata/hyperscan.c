/*
 * Searches a file for the patterns of another with Hyperscan and prints
 *   bytes per processor second, number of matches
 * for the benchmark beside it. Patterns: one regular expression a line.
 */
#include <hs/hs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static char *slurp(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	if (!f || fseek(f, 0, SEEK_END))
		exit(2);
	*n = ftell(f);
	rewind(f);
	char *s = malloc(*n + 1);
	if (!s || fread(s, 1, *n, f) != *n)
		exit(2);
	s[*n] = 0;
	fclose(f);
	return s;
}

static int count(unsigned id, unsigned long long from, unsigned long long to, unsigned flags, void *n)
{
	++*(unsigned long *)n;
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	size_t np, nd;
	char *text = slurp(argv[1], &np), *data = slurp(argv[2], &nd);
	const char *expressions[4096];
	unsigned flags[4096], n = 0;
	for (char *line = strtok(text, "\n"); line && n < 4096; line = strtok(NULL, "\n")) {
		expressions[n] = line;
		flags[n++] = HS_FLAG_DOTALL | HS_FLAG_SINGLEMATCH;
	}
	hs_database_t *db;
	hs_compile_error_t *e;
	hs_scratch_t *scratch = NULL;
	if (hs_compile_multi(expressions, flags, NULL, n, HS_MODE_BLOCK, NULL, &db, &e) != HS_SUCCESS) {
		fprintf(stderr, "%s\n", e->message);
		return 1;
	}
	if (hs_alloc_scratch(db, &scratch) != HS_SUCCESS)
		return 1;
	unsigned long found = 0, rounds = 0;
	clock_t start = clock(), used;
	do {
		found = 0;
		if (hs_scan(db, data, nd, 0, scratch, count, &found) != HS_SUCCESS)
			return 1;
		rounds++;
	} while ((used = clock() - start) < CLOCKS_PER_SEC);
	printf("%.0f %lu\n", (double)nd * rounds * CLOCKS_PER_SEC / used, found);
	return 0;
}
