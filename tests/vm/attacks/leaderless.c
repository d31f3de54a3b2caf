/*
 * leaderless BEFORE AFTER: a process whose main thread ends after BEFORE seconds, and another one AFTER seconds later.
 *
 * In between /proc/PID/stat says "Z (zombie)" and the command line is empty, though the process lives and holds its
 * memory. The kernel kills it like any other.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *live_on(void *seconds)
{
	sleep(atoi(seconds));
	_exit(0);
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc != 3)
		return 2;
	sleep(atoi(argv[1]));
	if (pthread_create(&thread, NULL, live_on, argv[2]) != 0)
		return 1;
	syscall(SYS_exit, 0); /* this thread alone: exit(3) ends all of them */
}
