/* starter UID ROUNDS PROGRAM ARGUMENT...: a daemon of root's that starts a user's program, as cron does.
 *
 * It waits until it is protected and /run/starter-go exists, starts the program ROUNDS times, one after the other, and
 * makes /run/starter-done. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int own_value(void)
{
	int value = 0;
	FILE *file = fopen("/proc/self/oom_score_adj", "r");
	if (!file || fscanf(file, "%d", &value) != 1)
		exit(2);
	fclose(file);
	return value;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	uid_t uid = atoi(argv[1]);
	while (own_value() >= 0 || access("/run/starter-go", F_OK) != 0)
		usleep(10000);
	for (int round = atoi(argv[2]); round > 0; round--) {
		pid_t child = fork();
		if (child == 0) {
			usleep(5000);
			if (setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
				_exit(3);
			execv(argv[3], argv + 3);
			_exit(4);
		}
		waitpid(child, NULL, 0);
	}
	close(creat("/run/starter-done", 0644));
	for (;;)
		pause();
}
