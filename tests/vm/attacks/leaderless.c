/*
 * leaderless SECONDS: a process whose main thread has ended.
 *
 * /proc/PID/stat says "Z (zombie)" of it and its command line is empty, though a thread lives on for SECONDS and
 * holds the process's memory. The kernel kills it like any other.
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

	if (argc != 2 || pthread_create(&thread, NULL, live_on, argv[1]) != 0)
		return 2;
	syscall(SYS_exit, 0); /* this thread alone: exit(3) ends all of them */
}
