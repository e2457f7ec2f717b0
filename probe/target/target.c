/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/target/target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/target/elf.h"
#include "probe/target/maps.h"
#include "probe/target/opener.h"
#include "probe/target/proc_file.h"
#include "probe/target/stat.h"

/* Texts of /proc are read whole, up to here; vm.max_map_count seldom allows 10 MB of maps. */
#define STAT_MAX (64u << 10)
#define CMDLINE_MAX (2u << 20)
#define MAPS_MAX (32u << 20)

/* A distinct mapped file, by the first of its executable mappings. */
struct library {
	const struct mapping *mapping;
	struct elf *elf; /* NULL until asked for */
};

struct target {
	const struct opener *opener;
	struct target_info info;
	struct maps maps;
	struct library *libraries; /* by address */
	size_t library_count;
	struct buffer cmdline; /* with a NUL behind it that is not counted */
	uint64_t exe_device, exe_inode;
	int maps_fd; /* keeps the address space's name: is_same() */
};

/* Say that a file of the process could not be read. ESRCH and ENOENT: it is gone. */
static int fail(const struct target *t, struct error *e, const char *file, int err)
{
	int pid = (int)t->info.pid;
	char remedy[160];

	switch (-err) {
	case ENOENT:
	case ESRCH:
		return error__set(e, EXIT_NO_TARGET, ESRCH, "list candidates with: moeprobe attach",
				  "target: failed to open process '%d': no such process", pid);
	case EACCES:
	case EPERM:
		snprintf(remedy, sizeof(remedy),
			 "run as root: sudo moeprobe attach %d (it takes CAP_SYS_PTRACE to look "
			 "at another user's process)",
			 pid);
		return error__set(e, EXIT_PERMISSION, -err, remedy,
				  "target: failed to open process '%d': no right to read its %s",
				  pid, file);
	case EFBIG:
		return error__set(e, EXIT_UNSUPPORTED, EFBIG, NULL,
				  "target: failed to read %s of process '%d': longer than %u MB",
				  file, pid, MAPS_MAX >> 20);
	default:
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "target: failed to read %s of process '%d': %s", file, pid,
				  strerror(-err));
	}
}

static int read_stat(struct target *t, struct pid_stat *stat)
{
	struct buffer text = { 0 };
	int err;

	memset(stat, 0, sizeof(*stat));
	err = proc_file__read(t->opener, t->info.pid, PROC_STAT, STAT_MAX, &text);
	if (!err)
		err = pid_stat__parse(stat, (const char *)text.data, text.size);
	buffer__free(&text);
	return err;
}

static int refuse_unprobeable(const struct target *t, const struct pid_stat *stat,
			      const struct pid_status *status, struct error *e)
{
	int pid = (int)t->info.pid;
	char remedy[64];

	if (stat->kernel_thread)
		return error__set(e, EXIT_UNSUPPORTED, ENOTSUP,
				  "list candidates with: moeprobe attach",
				  "target: failed to open process '%d': it is the kernel thread "
				  "'%s', which runs no program",
				  pid, stat->command);
	if (stat->state == 'Z' || stat->state == 'X')
		return error__set(e, EXIT_UNSUPPORTED, ENOTSUP,
				  "list candidates with: moeprobe attach",
				  "target: failed to open process '%d': it is a zombie ('%s' has "
				  "exited and waits for its parent)",
				  pid, stat->command);
	if (status->thread_group && status->thread_group != t->info.pid) {
		snprintf(remedy, sizeof(remedy), "name its process: moeprobe attach %d",
			 (int)status->thread_group);
		return error__set(e, EXIT_NO_TARGET, ESRCH, remedy,
				  "target: failed to open process '%d': it is a thread of process "
				  "'%d'",
				  pid, (int)status->thread_group);
	}
	return 0;
}

static int read_identity(struct target *t, struct error *e)
{
	struct target_info *info = &t->info;
	struct buffer text = { 0 };
	struct pid_status status;
	struct pid_stat stat;
	uint64_t device;
	int err;

	err = read_stat(t, &stat);
	if (err)
		return fail(t, e, "stat", err);
	/* Without status we know less, but enough. */
	if (proc_file__read(t->opener, info->pid, PROC_STATUS, STAT_MAX, &text))
		text.size = 0;
	pid_status__parse(&status, (const char *)text.data, text.size);
	buffer__free(&text);
	err = refuse_unprobeable(t, &stat, &status, e);
	if (err)
		return err;
	info->parent = stat.parent;
	info->namespace_pid = status.namespace_pid;
	info->threads = stat.threads;
	info->start_ticks = stat.start_ticks;
	memcpy(info->command, stat.command, sizeof(info->command));
	proc_file__identity(t->opener, info->pid, PROC_NS_PID, &device, &info->pid_namespace_inode);
	return 0;
}

/* The descriptor stays open: it names this very address space, so that after an exec or exit
 * the kernel has nothing more to print into it. */
static int read_maps(struct target *t, struct error *e)
{
	struct buffer text = { 0 };
	int err;

	t->maps_fd = t->opener->open_proc(t->opener->ctx, t->info.pid, PROC_MAPS);
	if (t->maps_fd < 0)
		return fail(t, e, "maps", t->maps_fd);
	err = proc_file__drain(t->maps_fd, MAPS_MAX, &text);
	if (!err && !text.size)
		err = -ESRCH;
	if (!err)
		err = maps__parse(&t->maps, (const char *)text.data, text.size);
	buffer__free(&text);
	return err ? fail(t, e, "maps", err) : 0;
}

static int read_cmdline(struct target *t, struct error *e)
{
	int err;

	err = proc_file__read(t->opener, t->info.pid, PROC_CMDLINE, CMDLINE_MAX, &t->cmdline);
	if (err && err != -EFBIG) /* a longer one is cut */
		return fail(t, e, "cmdline", err);
	if (buffer__append(&t->cmdline, "", 1))
		return fail(t, e, "cmdline", -ENOMEM);
	t->cmdline.size--;
	return 0;
}

static void copy_cut_left(char *out, size_t size, const char *text)
{
	size_t n = strlen(text);

	if (n >= size)
		snprintf(out, size, "...%s", text + n - (size - 4));
	else
		memcpy(out, text, n + 1);
}

/* A file's device number in maps is not always the one that stat gives (btrfs, overlays), so
 * the inode decides. */
static int read_executable(struct target *t, struct error *e)
{
	int err;

	err = proc_file__identity(t->opener, t->info.pid, PROC_EXE, &t->exe_device, &t->exe_inode);
	if (err)
		return fail(t, e, "exe", err);
	for (size_t i = 0; i < t->maps.count; i++) {
		if (t->maps.items[i].inode != t->exe_inode)
			continue;
		copy_cut_left(t->info.executable, sizeof(t->info.executable),
			      t->maps.items[i].path);
		break;
	}
	return 0;
}

static int by_file(const void *a, const void *b)
{
	const struct mapping *x = ((const struct library *)a)->mapping;
	const struct mapping *y = ((const struct library *)b)->mapping;

	if (x->device != y->device)
		return x->device < y->device ? -1 : 1;
	if (x->inode != y->inode)
		return x->inode < y->inode ? -1 : 1;
	return x->start < y->start ? -1 : x->start > y->start;
}

static int by_address(const void *a, const void *b)
{
	const struct mapping *x = ((const struct library *)a)->mapping;
	const struct mapping *y = ((const struct library *)b)->mapping;

	return x->start < y->start ? -1 : x->start > y->start;
}

static bool is_same_file(const struct mapping *a, const struct mapping *b)
{
	return a->device == b->device && a->inode == b->inode;
}

static int collect_libraries(struct target *t)
{
	size_t n = 0, kept = 0;

	t->libraries = calloc(t->maps.count + 1, sizeof(*t->libraries));
	if (!t->libraries)
		return -ENOMEM;
	for (size_t i = 0; i < t->maps.count; i++)
		if (t->maps.items[i].executable)
			t->libraries[n++].mapping = &t->maps.items[i];
	qsort(t->libraries, n, sizeof(*t->libraries), by_file);
	for (size_t i = 0; i < n; i++) {
		struct library *l = &t->libraries[i];

		if (!kept || !is_same_file(l->mapping, t->libraries[kept - 1].mapping))
			t->libraries[kept++] = *l;
	}
	qsort(t->libraries, kept, sizeof(*t->libraries), by_address);
	t->library_count = kept;
	return 0;
}

int target__open(struct target **out, pid_t pid, const struct opener *o, struct error *e)
{
	struct target *t;
	int err;

	*out = NULL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL,
				  "target: failed to open process '%d': out of memory", (int)pid);
	t->opener = o;
	t->info.pid = pid;
	t->maps_fd = -1;
	err = pid > 0 ? read_identity(t, e) : fail(t, e, "stat", -ESRCH);
	if (!err)
		err = read_maps(t, e);
	if (!err)
		err = read_cmdline(t, e);
	if (!err)
		err = read_executable(t, e);
	if (!err && collect_libraries(t))
		err = fail(t, e, "maps", -ENOMEM);
	if (err) {
		target__free(t);
		return err;
	}
	*out = t;
	return 0;
}

void target__free(struct target *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->library_count; i++)
		elf__free(t->libraries[i].elf);
	free(t->libraries);
	maps__free(&t->maps);
	buffer__free(&t->cmdline);
	if (t->maps_fd >= 0)
		close(t->maps_fd);
	free(t);
}

const struct target_info *target__info(const struct target *t)
{
	return &t->info;
}

const struct opener *target__opener(const struct target *t)
{
	return t->opener;
}

const struct mapping *target__mappings(const struct target *t, size_t *count)
{
	*count = t->maps.count;
	return t->maps.items;
}

const char *target__cmdline(const struct target *t, size_t *size)
{
	*size = t->cmdline.size;
	return (const char *)t->cmdline.data;
}

bool target__is_same(const struct target *t)
{
	uint64_t device, inode;
	struct pid_stat stat;
	char byte;
	int err;

	/* Nothing to print: this address space is gone (exit, or exec of whatever file). */
	if (pread(t->maps_fd, &byte, 1, 0) <= 0)
		return false;
	if (read_stat((struct target *)t, &stat) || stat.start_ticks != t->info.start_ticks ||
	    stat.state == 'Z' || stat.state == 'X')
		return false;
	err = proc_file__identity(t->opener, t->info.pid, PROC_EXE, &device, &inode);
	if (err == -EACCES || err == -EPERM)
		return true; /* cannot be asked; the address space was */
	return !err && device == t->exe_device && inode == t->exe_inode;
}

bool target__has_memory(const struct target *t)
{
	int fd = t->opener->open_proc(t->opener->ctx, t->info.pid, PROC_MAPS);
	char byte;
	bool any;

	if (fd < 0) /* what cannot be asked has become something else; what is gone, has not */
		return fd != -ESRCH && fd != -ENOENT;
	any = pread(fd, &byte, 1, 0) > 0;
	close(fd);
	return any;
}

const struct mapping *target__next_library(const struct target *t, size_t *at)
{
	return *at < t->library_count ? t->libraries[(*at)++].mapping : NULL;
}

/* Readable descriptor of the file behind @m. map_files gives the very file; where that right is
 * missing, its path inside the target's root serves if it still leads to the same inode. */
static int open_library(const struct target *t, const struct mapping *m)
{
	const struct opener *o = t->opener;
	struct stat st;
	int fd, err;

	err = fd = o->open_mapped(o->ctx, t->info.pid, m->start, m->end);
	if (fd >= 0 || m->deleted || (err != -EACCES && err != -EPERM))
		return fd;
	fd = o->open_path(o->ctx, t->info.pid, m->path);
	if (fd < 0)
		return err;
	if (!fstat(fd, &st) && st.st_ino == m->inode)
		return fd;
	close(fd);
	return err;
}

static int open_elf(struct target *t, struct library *l, struct error *e)
{
	const struct mapping *m = l->mapping;
	int fd = open_library(t, m);

	if (fd == -EACCES || fd == -EPERM)
		return error__set(e, EXIT_PERMISSION, -fd,
				  "run as root, or add CAP_CHECKPOINT_RESTORE, which opens mapped "
				  "files",
				  "target: failed to open '%s' of process '%d': %s", m->path,
				  (int)t->info.pid, strerror(-fd));
	if (fd < 0)
		return error__set(e, target__is_same(t) ? EXIT_UNSUPPORTED : EXIT_NO_TARGET, -fd,
				  NULL, "target: failed to open '%s' of process '%d': %s", m->path,
				  (int)t->info.pid, strerror(-fd));
	return elf__open(&l->elf, fd, m->path, e);
}

int target__elf(struct target *t, const struct mapping *m, struct elf **out, struct error *e)
{
	int err;

	*out = NULL;
	for (size_t i = 0; i < t->library_count; i++) {
		struct library *l = &t->libraries[i];

		if (!is_same_file(l->mapping, m))
			continue;
		err = l->elf ? 0 : open_elf(t, l, e);
		*out = l->elf;
		return err;
	}
	return error__set(e, EXIT_FAILED, EINVAL, NULL,
			  "target: failed to open '%s' of process '%d': it has no executable "
			  "mapping",
			  m->path, (int)t->info.pid);
}
