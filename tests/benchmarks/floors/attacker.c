/* attacker HOW PROCESSES RATE SECONDS: what any user can do to make a daemon look at processes.
 *
 * PROCESSES of them, each RATE times a second, or flat out with RATE 0:
 *   rewrite  their own oom_score_adj, to other values in turn
 *   open     their own oom_score_adj for writing, without a write
 *   rename   themselves
 *   threads  a thread, which renames itself, and ends
 *   euid     root's effective uid, back and forth; uid: the real one
 *   exec     this program, which ends at once
 *   reexec   their own image, again and again
 *   fork     a child, which ends at once
 *   move     themselves to another cgroup and back: the folders are in ATTACK_CGROUPS, separated by a colon
 * Prints how often that was, for all of them. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *how, *self;
static int value_file, cgroup_files[2];
static char *turns_text;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void *name_itself(void *unused)
{
	prctl(PR_SET_NAME, "ogb-thread");
	return unused;
}

static void attack(long turn)
{
	int odd = turn & 1;
	pid_t child;
	if (!strcmp(how, "rewrite")) {
		/* Above the rule's value, then itself: whoever is raised without a capability may come down. */
		if (pwrite(value_file, odd ? "7\n" : "8\n", 2, 0) != 2)
			_exit(3);
	} else if (!strcmp(how, "open")) {
		close(open("/proc/self/oom_score_adj", O_WRONLY | O_TRUNC));
	} else if (!strcmp(how, "rename")) {
		prctl(PR_SET_NAME, odd ? "ogb-attacker" : "ogb-attacking");
	} else if (!strcmp(how, "threads")) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, name_itself, NULL) == 0)
			pthread_join(thread, NULL);
	} else if (!strcmp(how, "euid")) {
		syscall(SYS_setresuid, -1, odd ? 0 : 4242, -1);
	} else if (!strcmp(how, "uid")) {
		syscall(SYS_setresuid, odd ? 0 : 4242, -1, -1);
	} else if (!strcmp(how, "exec")) {
		if ((child = vfork()) == 0) {
			execl(self, self, "end", "0", "0", "0", NULL);
			_exit(3);
		}
		waitpid(child, NULL, 0);
	} else if (!strcmp(how, "fork")) {
		if ((child = fork()) == 0)
			_exit(0);
		waitpid(child, NULL, 0);
	} else if (!strcmp(how, "move")) {
		if (write(cgroup_files[odd], "0\n", 2) != 2)
			_exit(3);
	}
}

static void reexec(char **argv, double end)
{
	char text[32];
	snprintf(text, sizeof text, "%.6f", end);
	setenv("ATTACK_UNTIL", text, 1);
	__atomic_add_fetch((long *)turns_text, 1, __ATOMIC_RELAXED);
	execv(self, argv);
	_exit(3);
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	how = argv[1];
	self = argv[0];
	if (!strcmp(how, "end"))
		return 0;
	int processes = atoi(argv[2]);
	double rate = atof(argv[3]), end = now() + atof(argv[4]);
	char *until = getenv("ATTACK_UNTIL"), *folders = getenv("ATTACK_CGROUPS");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int shared = memfd_create("turns", 0);
	if (until != NULL) { /* it is one that called itself again */
		if (now() >= atof(until))
			return 0;
		end = atof(until);
		shared = atoi(getenv("ATTACK_TURNS"));
	} else {
		char text[16];
		snprintf(text, sizeof text, "%d", shared);
		setenv("ATTACK_TURNS", text, 1);
		if (ftruncate(shared, 4096) != 0)
			return 3;
	}
	long *turns = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
	turns_text = (char *)turns;
	if (until != NULL)
		reexec(argv, end);
	for (int at = 0; folders != NULL && at < 2; at++) {
		char path[4096], *folder = at ? strchr(folders, ':') + 1 : folders;
		snprintf(path, sizeof path, "%.*s/cgroup.procs", (int)strcspn(folder, ":"), folder);
		cgroup_files[at] = open(path, O_WRONLY);
	}
	for (int process = 0; process < processes; process++) {
		if (fork() != 0)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		value_file = open("/proc/self/oom_score_adj", O_WRONLY);
		if (!strcmp(how, "reexec"))
			reexec(argv, end);
		double start = now();
		long turn = 0;
		for (double t = start; t < end; t = now()) {
			for (int burst = 0; burst < 64 && (rate == 0 || turn < (t - start) * rate); burst++)
				attack(turn++);
			if (rate > 0) {
				double left = start + turn / rate - now();
				if (left > 0)
					usleep(left * 1e6);
			}
		}
		__atomic_add_fetch(turns, turn, __ATOMIC_RELAXED);
		_exit(0);
	}
	while (wait(NULL) > 0)
		;
	printf("%ld\n", *turns);
	return 0;
}
