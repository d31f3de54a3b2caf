/* execer COUNT RATE WORKERS PROGRAM [ARGUMENT...]: start PROGRAM COUNT times.
 *
 * RATE a second, one after the other; or, with RATE 0, flat out by WORKERS processes side by side.
 * Prints the seconds it took to standard error. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void run(char **command)
{
	pid_t pid = vfork();
	if (pid == 0) {
		execv(command[0], command);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	int count = atoi(argv[1]), rate = atoi(argv[2]), workers = atoi(argv[3]);
	char **command = argv + 4;
	struct timespec start, next, end;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	clock_gettime(CLOCK_MONOTONIC, &start);
	if (rate > 0) {
		next = start;
		for (int i = 0; i < count; i++) {
			run(command);
			next.tv_nsec += 1000000000 / rate;
			if (next.tv_nsec >= 1000000000) {
				next.tv_nsec -= 1000000000;
				next.tv_sec++;
			}
			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
		}
	} else {
		for (int worker = 0; worker < workers; worker++)
			if (fork() == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				for (int i = worker; i < count; i += workers)
					run(command);
				_exit(0);
			}
		while (wait(NULL) > 0)
			;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	fprintf(stderr, "%.6f\n", end.tv_sec - start.tv_sec + (end.tv_nsec - start.tv_nsec) / 1e9);
	return 0;
}
