/* renamer SECONDS RATE: COMM events of this process, RATE a second.
 *
 * The cheapest storm of events there is: a process that renames itself. Prints how many, and the
 * seconds it took. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	double start = now(), end = start + atof(argv[1]), rate = atof(argv[2]), t;
	long count = 0;
	prctl(PR_SET_PDEATHSIG, 9);
	while ((t = now()) < end)
		for (int burst = 0; burst < 64 && count < (t - start) * rate; burst++, count++)
			prctl(PR_SET_NAME, "ogb-renamer");
	printf("%ld %.6f\n", count, now() - start);
	return 0;
}
