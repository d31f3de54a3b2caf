/* spin COUNT: COUNT processes that use all the CPU they get. */
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 1; i < (argc > 1 ? atoi(argv[1]) : 1); i++)
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			break;
		}
	for (volatile unsigned i = 0;; i++)
		;
}
