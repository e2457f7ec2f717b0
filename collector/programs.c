/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Generated. */
#include "probe/bpf/probe.skel.h"

#define ATTACH_TYPE_UPROBE_MULTI 48       /* newer than libbpf's header */
#define INITIAL_PID_NAMESPACE 0xEFFFFFFCu /* its inode, fixed in the kernel */

/* Which object loads a program; about equal work for the verifier. */
enum { OBJECT_FIRST, OBJECT_SECOND, OBJECTS };
static const int object_of[MP_PROGRAM_COUNT] = {
	[MP_PROGRAM_ROUTE] = OBJECT_FIRST,  [MP_PROGRAM_ROWS] = OBJECT_FIRST,
	[MP_PROGRAM_EMPTY] = OBJECT_FIRST,  [MP_PROGRAM_LINE] = OBJECT_SECOND,
	[MP_PROGRAM_TASKS] = OBJECT_SECOND, [MP_PROGRAM_TENSORS] = OBJECT_FIRST,
	[MP_PROGRAM_BYTES] = OBJECT_FIRST,  [MP_PROGRAM_HEADS] = OBJECT_SECOND,
};

struct programs {
	struct probe *object[OBJECTS];
};

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	return level == LIBBPF_DEBUG ? 0 : vfprintf(stderr, format, args);
}

static struct bpf_program *program_of(const struct probe *object, uint32_t id)
{
	switch (id) {
#define X(number, name, function) \
	case MP_PROGRAM_##name: \
		return object->progs.function;
		MP_PROGRAMS(X)
#undef X
	default:
		return NULL;
	}
}

/* Where process ids are to be counted from, if not from the machine's first namespace. */
static void set_pid_namespace(struct mp_config *config)
{
	struct stat st;

	if (stat("/proc/self/ns/pid", &st) || st.st_ino == INITIAL_PID_NAMESPACE)
		return;
	config->pid_namespace_dev = (uint64_t)major(st.st_dev) << 20 | minor(st.st_dev);
	config->pid_namespace_inode = st.st_ino;
}

static bool is_wanted(const struct programs_options *o, uint32_t program)
{
	if (program == MP_PROGRAM_HEADS)
		return o->heads;
	return !o->only || o->only & 1u << program;
}

/* Without the program for heads nothing of it is there. */
static int leave_heads(struct probe *object, const struct programs_options *o)
{
	struct bpf_map *const maps[] = { object->maps.listeners, object->maps.streams,
					 object->maps.no_heads };
	int err = 0;

	for (size_t i = 0; i < sizeof(maps) / sizeof(*maps) && !err && !o->heads; i++)
		err = bpf_map__set_autocreate(maps[i], false);
	return err;
}

static int open_object(struct programs *p, int number, const struct programs_options *o)
{
	struct probe *object = probe__open();
	int err;

	if (!object)
		return errno ? -errno : -ENOMEM;
	p->object[number] = object;
	object->rodata->config.ring_bytes = o->ring_bytes;
	set_pid_namespace(&object->rodata->config);
	err = bpf_map__set_max_entries(object->maps.ring, o->ring_bytes);
	if (!err)
		err = leave_heads(object, o);
	for (uint32_t i = 0; i < MP_PROGRAM_COUNT && !err; i++) {
		struct bpf_program *program = program_of(object, i);

		err = bpf_program__set_autoload(program, object_of[i] == number && is_wanted(o, i));
		if (!err && o->multi && i != MP_PROGRAM_HEADS)
			err = bpf_program__set_expected_attach_type(
				program, (enum bpf_attach_type)ATTACH_TYPE_UPROBE_MULTI);
	}
	return err;
}

/* Create @map of the first object and give it to all of them. */
static int share_map(struct programs *p, const struct bpf_map *map)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = bpf_map__map_flags(map));
	int fd, err = 0;

	fd = bpf_map_create(bpf_map__type(map), bpf_map__name(map), bpf_map__key_size(map),
			    bpf_map__value_size(map), bpf_map__max_entries(map), &options);
	if (fd < 0)
		return -errno;
	for (int i = 0; i < OBJECTS && !err; i++)
		err = bpf_map__reuse_fd(
			bpf_object__find_map_by_name(p->object[i]->obj, bpf_map__name(map)), fd);
	close(fd); /* each object has its own now */
	return err;
}

static int share_maps(struct programs *p)
{
	const struct bpf_map *map;
	int err = 0;

	bpf_object__for_each_map(map, p->object[0]->obj)
	{
		if (!err && !bpf_map__is_internal(map) && bpf_map__autocreate(map))
			err = share_map(p, map);
	}
	return err;
}

/* A thread: its result is 0 or -errno. */
static void *load_object(void *object)
{
	return (void *)(intptr_t)probe__load(object);
}

static int load_objects(struct programs *p)
{
	pthread_t thread[OBJECTS];
	void *result;
	int started = 0, err = 0;

	while (started < OBJECTS - 1 &&
	       !pthread_create(&thread[started], NULL, load_object, p->object[started + 1]))
		started++;
	err = probe__load(p->object[0]);
	for (int i = 0; i < started; i++) {
		pthread_join(thread[i], &result);
		err = err ? err : (int)(intptr_t)result;
	}
	for (int i = started + 1; i < OBJECTS && !err; i++)
		err = probe__load(p->object[i]);
	return err;
}

int programs__load(struct programs **out, const struct programs_options *o)
{
	struct programs *p = calloc(1, sizeof(*p));
	int err = p ? 0 : -ENOMEM;

	*out = NULL;
	libbpf_set_print(o->verbose ? print_libbpf : NULL);
	for (int i = 0; i < OBJECTS && !err; i++)
		err = open_object(p, i, o);
	if (!err)
		err = share_maps(p);
	if (!err)
		err = load_objects(p);
	if (err) {
		programs__free(p);
		return err;
	}
	*out = p;
	return 0;
}

struct programs_loading {
	pthread_t thread;
	struct programs_options options;
	struct programs *programs;
	int err;
};

static void *load_in_background(void *loading)
{
	struct programs_loading *l = loading;

	l->err = programs__load(&l->programs, &l->options);
	return NULL;
}

struct programs_loading *programs__start(const struct programs_options *o)
{
	struct programs_loading *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->options = *o;
	if (!pthread_create(&l->thread, NULL, load_in_background, l))
		return l;
	free(l);
	return NULL;
}

int programs__wait(struct programs **out, struct programs_loading *l)
{
	int err;

	pthread_join(l->thread, NULL);
	*out = l->programs;
	err = l->err;
	free(l);
	return err;
}

void programs__free(struct programs *p)
{
	if (!p)
		return;
	for (int i = 0; i < OBJECTS; i++)
		probe__destroy(p->object[i]);
	free(p);
}

int programs__fd(const struct programs *p, uint32_t program)
{
	if (program >= MP_PROGRAM_COUNT)
		return -EINVAL;
	return bpf_program__fd(program_of(p->object[object_of[program]], program));
}

int programs__map_fd(const struct programs *p, enum program_map map)
{
	switch (map) {
#define X(name, in_skeleton) \
	case PROGRAM_MAP_##name: \
		return bpf_map__fd(p->object[0]->maps.in_skeleton);
		PROGRAM_MAPS(X)
#undef X
	}
	return -EINVAL;
}
