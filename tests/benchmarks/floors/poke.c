/* poke VALUE PID...: write 0 over each PID's oom_score_adj; how long until it is VALUE again?
 *
 * One after the other, a pause of 5 ms between them. Prints nanoseconds, or -1 after 2 s. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	for (int i = 2; i < argc; i++) {
		char path[64], text[16];
		long long start, seen = -1;
		snprintf(path, sizeof path, "/proc/%s/oom_score_adj", argv[i]);
		int fd = open(path, O_RDWR);
		if (fd < 0)
			continue;
		start = now();
		if (write(fd, "0", 1) != 1)
			return 1;
		while (seen < 0 && now() - start < 2000000000LL) {
			ssize_t got = pread(fd, text, sizeof text - 1, 0);
			text[got < 0 ? 0 : got] = 0;
			if (atoi(text) == atoi(argv[1]))
				seen = now() - start;
		}
		close(fd);
		printf("%lld\n", seen);
		usleep(5000);
	}
	return 0;
}
