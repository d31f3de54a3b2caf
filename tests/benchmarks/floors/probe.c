/* probe VALUE WORK_US: how long until somebody sets this process's oom_score_adj to VALUE?
 *
 * Looks again and again, for WORK_US microseconds of its own CPU time, then gives up: so it lives as
 * long as a program with that much to do, whatever else the host is busy with. Appends one line to
 * standard output: nanoseconds from the start of main, or -1. With WORK_US 0 it exits at once and
 * says nothing: a program that is only exec'd. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	long long start = now(CLOCK_MONOTONIC), seen = -1;
	long long work = argc > 2 ? atoll(argv[2]) * 1000 : 0;
	char wanted[16], text[16];
	if (work == 0)
		return 0;
	int length = snprintf(wanted, sizeof wanted, "%s\n", argv[1]);
	int fd = open("/proc/self/oom_score_adj", O_RDONLY);
	/* The CPU clock costs a system call, so it is asked every 16th time only. */
	for (unsigned turn = 0; seen < 0; turn++) {
		if (pread(fd, text, sizeof text, 0) == length && memcmp(text, wanted, length) == 0)
			seen = now(CLOCK_MONOTONIC) - start;
		else if (turn % 16 == 0 && now(CLOCK_PROCESS_CPUTIME_ID) > work)
			break;
	}
	length = snprintf(text, sizeof text, "%lld\n", seen);
	return write(1, text, length) != length;
}
