/* sleepers COUNT PREFIX NAMES: COUNT processes that sleep, named PREFIX00000, PREFIX00001, ...
 *
 * They share NAMES names, as the processes of a real host do.
 * Prints their pids, one a line, and an empty line when all have their names; ends them when
 * standard input does. Static and tiny, so that 10,000 of them cost some 60 KiB of kernel memory each. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	int count = atoi(argv[1]), named[2];
	pid_t *pids = calloc(count, sizeof *pids);
	char byte;
	if (pids == NULL || pipe(named) < 0)
		return 1;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < count; i++) {
		pids[i] = fork();
		if (pids[i] < 0) {
			perror("fork");
			return 1; /* the others end with this process */
		}
		if (pids[i] == 0) {
			char name[16];
			snprintf(name, sizeof name, "%s%05d", argv[2], i % atoi(argv[3]));
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			prctl(PR_SET_NAME, name);
			if (write(named[1], "", 1) != 1)
				_exit(1);
			for (;;)
				pause();
		}
	}
	for (int i = 0; i < count; i++)
		if (read(named[0], &byte, 1) != 1)
			return 1;
	for (int i = 0; i < count; i++)
		printf("%d\n", pids[i]);
	printf("\n");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	for (int i = 0; i < count; i++)
		kill(pids[i], SIGKILL);
	while (wait(NULL) > 0)
		;
	return 0;
}
