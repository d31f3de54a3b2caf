/* probe VALUE WORK_US: how long until somebody sets this process's oom_score_adj to VALUE?
 *
 * Looks again and again, for WORK_US microseconds of CPU time from the start of main, then gives up: so it lives as
 * long as a program with that much to do, whatever else the host is busy with. Appends one line to
 * standard output: nanoseconds from the start of main and of these those it had the CPU, or -1 and
 * -1. The first also counts the time it waits for a CPU after the value was written. With WORK_US 0
 * it exits at once and says nothing: a program that is only exec'd. */
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
	long long start = now(CLOCK_MONOTONIC), start_cpu = now(CLOCK_PROCESS_CPUTIME_ID), seen = -1, ran = -1;
	long long work = argc > 2 ? atoll(argv[2]) * 1000 : 0;
	char wanted[16], text[64];
	if (work == 0)
		return 0;
	int length = snprintf(wanted, sizeof wanted, "%s\n", argv[1]);
	int fd = open("/proc/self/oom_score_adj", O_RDONLY);
	/* The CPU clock costs a system call, so it is asked every 16th time only. */
	for (unsigned turn = 0; seen < 0; turn++) {
		if (pread(fd, text, sizeof text, 0) == length && memcmp(text, wanted, length) == 0)
			seen = now(CLOCK_MONOTONIC) - start, ran = now(CLOCK_PROCESS_CPUTIME_ID) - start_cpu;
		else if (turn % 16 == 0 && now(CLOCK_PROCESS_CPUTIME_ID) - start_cpu > work)
			break;
	}
	length = snprintf(text, sizeof text, "%lld %lld\n", seen, ran);
	return write(1, text, length) != length;
}
