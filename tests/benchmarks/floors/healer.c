/* healer VALUE PID...: inotify on the oom_score_adj of each PID; what is written is made VALUE again.
 *
 * Prints "ready". A process's own write raises an event, too: so a value that is VALUE is left alone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	int queue = inotify_init1(IN_CLOEXEC), *pid_of = calloc(argc + 1, sizeof *pid_of);
	char path[64], text[16], buffer[65536];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 2; i < argc; i++) {
		snprintf(path, sizeof path, "/proc/%s/oom_score_adj", argv[i]);
		open(path, O_PATH | O_CLOEXEC); /* pins the dentry the watch hangs on */
		int wd = inotify_add_watch(queue, path, IN_MODIFY);
		if (wd < 0 || wd > argc)
			return 1;
		pid_of[wd] = atoi(argv[i]);
	}
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		ssize_t length = read(queue, buffer, sizeof buffer);
		for (char *at = buffer; at < buffer + length;) {
			struct inotify_event *event = (struct inotify_event *)at;
			at += sizeof *event + event->len;
			snprintf(path, sizeof path, "/proc/%d/oom_score_adj", pid_of[event->wd]);
			int fd = open(path, O_RDWR | O_CLOEXEC);
			if (fd < 0)
				continue;
			ssize_t got = read(fd, text, sizeof text - 1);
			text[got < 0 ? 0 : got] = 0;
			if (atoi(text) != atoi(argv[1]) && write(fd, argv[1], strlen(argv[1])) < 0)
				perror("write");
			close(fd);
		}
	}
}
