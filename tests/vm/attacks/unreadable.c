/* unreadable NAME FOLDER SECONDS COUNT: what any user can do to whoever reads /proc/PID/cmdline.
 *
 * In namespaces of its own it mounts a FUSE file system on FOLDER, whose one file it serves itself: the first
 * read of a page fails, later ones never get an answer. A thread faults on the page, holding the process's
 * mmap_lock; another one waits for the lock to write, so that every reader waits behind it. Its name is
 * NAME. COUNT processes do so. Prints "ready" 3 s after all of them began. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int device;
static volatile char *page;

static void die(const char *what) { perror(what); exit(1); }

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, text, strlen(text)) < 0) die(path);
	close(fd);
}

static void answer(struct fuse_in_header *request, int error, const void *data, size_t size)
{
	char reply[512];
	struct fuse_out_header *header = (void *)reply;
	*header = (struct fuse_out_header){sizeof *header + size, error, request->unique};
	if (size) memcpy(header + 1, data, size);
	if (write(device, reply, header->len) < 0) die("answer");
}

static void serve(void)
{
	static char buffer[1 << 20];
	for (int reads = 0;;) {
		struct fuse_in_header *request = (void *)buffer;
		if (read(device, buffer, sizeof buffer) < 0) {
			if (errno == EINTR || errno == ENOENT) continue;
			exit(0); /* unmounted */
		}
		struct fuse_attr file = {.ino = request->nodeid, .nlink = 1, .mode = S_IFREG | 0644, .size = 4096};
		if (request->opcode == FUSE_INIT) {
			struct fuse_init_out made = {.major = 7, .minor = 31, .max_write = 4096};
			answer(request, 0, &made, sizeof made);
		} else if (request->opcode == FUSE_LOOKUP) {
			struct fuse_entry_out entry = {.nodeid = 2, .attr_valid = 1000, .entry_valid = 1000, .attr = file};
			answer(request, 0, &entry, sizeof entry);
		} else if (request->opcode == FUSE_GETATTR) {
			if (request->nodeid == FUSE_ROOT_ID) file.mode = S_IFDIR | 0755;
			struct fuse_attr_out found = {.attr_valid = 1000, .attr = file};
			answer(request, 0, &found, sizeof found);
		} else if (request->opcode == FUSE_OPEN) {
			struct fuse_open_out opened = {.open_flags = FOPEN_KEEP_CACHE};
			answer(request, 0, &opened, sizeof opened);
		} else if (request->opcode == FUSE_READ) {
			if (reads++ == 0) answer(request, -EIO, 0, 0); /* the fault is tried again, with the lock held */
		} else if (request->opcode != FUSE_INTERRUPT && request->opcode != FUSE_FORGET) {
			answer(request, -ENOSYS, 0, 0);
		}
	}
}

static void *fault(void *unused)
{
	if (page[0]) puts("the page came");
	return unused;
}

static void *lock(void *unused)
{
	sleep(1);
	mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return unused;
}

static void hang(const char *name, const char *folder, int seconds, int ready)
{
	char text[128];
	int uid = getuid(), gid = getgid();
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS)) die("unshare");
	put("/proc/self/setgroups", "deny");
	snprintf(text, sizeof text, "0 %d 1", uid);
	put("/proc/self/uid_map", text);
	snprintf(text, sizeof text, "0 %d 1", gid);
	put("/proc/self/gid_map", text);
	device = open("/dev/fuse", O_RDWR);
	if (device < 0) die("/dev/fuse");
	snprintf(text, sizeof text, "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
	if (mount("unreadable", folder, "fuse", MS_NOSUID | MS_NODEV, text)) die("mount");
	pid_t server = fork();
	if (!server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve();
	}
	close(device); /* so that the file system ends with its server, and the fault with it */
	snprintf(text, sizeof text, "%s/file", folder);
	int file = open(text, O_RDONLY);
	if (file < 0) die(text);
	page = mmap(0, 4096, PROT_READ, MAP_PRIVATE, file, 0);
	if (page == MAP_FAILED) die("mmap");
	prctl(PR_SET_NAME, name);
	/* From here on it may hang in any page fault of its own, so this comes first. */
	if (write(ready, "r", 1) != 1) die("ready");
	pthread_t one, other;
	pthread_create(&other, 0, lock, 0);
	pthread_create(&one, 0, fault, 0);
	sleep(seconds);
	kill(server, SIGKILL);
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc != 5) return 2;
	int count = atoi(argv[4]), pipes[2];
	char byte;
	if (pipe(pipes)) die("pipe");
	for (int number = 0; number < count; number++)
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			hang(argv[1], argv[2], atoi(argv[3]), pipes[1]);
		}
	close(pipes[1]);
	for (int number = 0; number < count; number++)
		if (read(pipes[0], &byte, 1) != 1) return 1;
	sleep(3);
	puts("ready");
	fflush(stdout);
	sleep(atoi(argv[3]));
	return 0;
}
