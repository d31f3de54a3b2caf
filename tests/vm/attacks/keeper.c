/* keeper WAY: tries to keep the value that it inherited from a protected process, and ends up as one process, or as
 * two with `subreaper` and `share`.
 *
 *   fork        has a child at once, which may be copied before the value is reset and stamped after
 *   orphan      becomes an orphan, and has a child that is said to be init's (CLONE_PARENT)
 *   subreaper   the same, but its parent is the user's own process
 *   lower       becomes an orphan, and lowers itself by one less than it was given
 *   raise       becomes an orphan with 0, and lowers itself again once /run/keeper-go exists
 *   hop         becomes an orphan, and goes on as its own child 10 times a second, until /run/keeper-go exists
 *   namespace   becomes an orphan in user and PID namespaces of its own
 *   share       becomes an orphan that shares its memory with its child
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char stack[65536];

static void choose(const char *value)
{
	int file = open("/proc/self/oom_score_adj", O_WRONLY);
	if (file >= 0 && write(file, value, strlen(value)) < 0)
		(void)0; /* not allowed: then it stays as it is */
	close(file);
}

static int stay(void *unused)
{
	(void)unused;
	for (;;)
		pause();
	return 0;
}

/* Goes on as a child of this process's parent. */
static void leave(int flags)
{
	if (syscall(SYS_clone, (long)(flags | SIGCHLD), 0L, 0L, 0L, 0L) != 0)
		_exit(0);
}

static void become_an_orphan(pid_t parent)
{
	if (fork() != 0)
		_exit(0);
	while (getppid() == parent)
		usleep(100);
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "";
	pid_t self = getpid();

	if (strcmp(way, "fork") == 0) {
		leave(0);
	} else if (strcmp(way, "subreaper") == 0) {
		become_an_orphan(self);
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		signal(SIGCHLD, SIG_IGN); /* it leaves no zombies */
		pid_t middle = fork();
		if (middle == 0) {
			become_an_orphan(getpid());
			leave(CLONE_PARENT);
		} else {
			choose("0"); /* it has a value of its own, and waits for those it reaps */
		}
	} else {
		become_an_orphan(self);
		if (strcmp(way, "raise") == 0)
			choose("0");
		leave(CLONE_PARENT);
		if (strcmp(way, "lower") == 0)
			choose("-899");
		if (strcmp(way, "raise") == 0) {
			while (access("/run/keeper-go", F_OK) != 0)
				usleep(10000);
			choose("-899");
		}
		if (strcmp(way, "namespace") == 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0)
			leave(0);
		if (strcmp(way, "share") == 0)
			clone(stay, stack + sizeof stack, CLONE_VM | CLONE_PARENT | SIGCHLD, NULL);
		while (strcmp(way, "hop") == 0 && access("/run/keeper-go", F_OK) != 0) {
			leave(0);
			usleep(100000); /* where a processor is emulated, a pass takes twice as long */
		}
	}
	return stay(NULL);
}
