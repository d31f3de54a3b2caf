/* scan ROUNDS [PREFIX VALUE]: read name and oom_score_adj of every process, ROUNDS times.
 *
 * The least a full pass can do: open the process's folder, read both files through it. With PREFIX,
 * VALUE is written to each process whose name begins so and which has another one. Prints a line a
 * round: nanoseconds of CPU time, processes seen, values written. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int read_at(int folder, const char *name, char *text, int size)
{
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int length = read(fd, text, size - 1);
	close(fd);
	text[length < 0 ? 0 : length] = 0;
	return length;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1;
	const char *prefix = argc > 3 ? argv[2] : NULL, *value = argc > 3 ? argv[3] : "";
	size_t prefix_length = prefix ? strlen(prefix) : 0;
	DIR *proc = opendir("/proc");
	for (int round = 0; round < rounds; round++) {
		struct timespec start, end;
		struct dirent *entry;
		int seen = 0, written = 0;
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
		rewinddir(proc);
		while ((entry = readdir(proc)) != NULL) {
			char comm[64], adj[16];
			if (!isdigit((unsigned char)entry->d_name[0]))
				continue;
			int folder = openat(dirfd(proc), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			if (folder < 0)
				continue;
			if (read_at(folder, "comm", comm, sizeof comm) > 0
			    && read_at(folder, "oom_score_adj", adj, sizeof adj) > 0) {
				seen++;
				if (prefix && strncmp(comm, prefix, prefix_length) == 0 && atoi(adj) != atoi(value)) {
					int fd = openat(folder, "oom_score_adj", O_WRONLY | O_CLOEXEC);
					if (fd >= 0 && write(fd, value, strlen(value)) > 0)
						written++;
					close(fd);
				}
			}
			close(folder);
		}
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
		printf("%lld %d %d\n",
		       (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec, seen, written);
	}
	return 0;
}
