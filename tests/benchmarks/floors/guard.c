/* guard NAME VALUE EVENTS: the proc connector in as little C as does the job.
 *
 * Subscribes to EVENTS (a mask of enum proc_cn_event; the kernel filters from 6.6 on), reads the name
 * of each process told of, and writes VALUE if it is NAME. With VALUE "-" it only receives.
 * Prints "ready", and at SIGTERM: events received, losses (ENOBUFS), values written. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile sig_atomic_t stopped;

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

static int subscribe(int fd, unsigned operation, unsigned events)
{
	struct {
		struct nlmsghdr header;
		struct cn_msg message;
		unsigned operation, events;
	} __attribute__((packed)) request;
	memset(&request, 0, sizeof request);
	request.header.nlmsg_len = sizeof request;
	request.header.nlmsg_type = NLMSG_DONE;
	request.header.nlmsg_pid = getpid();
	request.message.id.idx = CN_IDX_PROC;
	request.message.id.val = CN_VAL_PROC;
	request.message.len = 8;
	request.operation = operation;
	request.events = events;
	return send(fd, &request, sizeof request, 0);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	const char *value = argv[2];
	size_t name_length = strlen(argv[1]);
	int only_receive = strcmp(value, "-") == 0, size = 8 << 20;
	unsigned mask = strtoul(argv[3], NULL, 0);
	long events = 0, losses = 0, written = 0;
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = CN_IDX_PROC};
	struct sigaction action = {.sa_handler = stop}; /* without SA_RESTART: recv returns */
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_CONNECTOR);
	char buffer[4096];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGTERM, &action, NULL);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || subscribe(fd, PROC_CN_MCAST_LISTEN, mask) < 0) {
		perror("connector");
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	while (!stopped) {
		ssize_t length = recv(fd, buffer, sizeof buffer, 0);
		if (length < 0) {
			losses += errno == ENOBUFS;
			continue;
		}
		struct proc_event *event = (struct proc_event *)(buffer + sizeof(struct nlmsghdr) + sizeof(struct cn_msg));
		if (event->what == 0)
			continue; /* the acknowledgement */
		events++;
		if (only_receive)
			continue;
		char path[64], comm[32];
		int pid = event->event_data.exec.process_tgid; /* at the same place in every event */
		snprintf(path, sizeof path, "/proc/%d/comm", pid);
		int file = open(path, O_RDONLY | O_CLOEXEC);
		if (file < 0)
			continue;
		length = read(file, comm, sizeof comm);
		close(file);
		if (length != (ssize_t)name_length + 1 || memcmp(comm, argv[1], name_length) != 0)
			continue;
		snprintf(path, sizeof path, "/proc/%d/oom_score_adj", pid);
		file = open(path, O_WRONLY | O_CLOEXEC);
		if (file < 0)
			continue;
		written += write(file, value, strlen(value)) > 0;
		close(file);
	}
	subscribe(fd, PROC_CN_MCAST_IGNORE, mask);
	printf("%ld %ld %ld\n", events, losses, written);
	return 0;
}
