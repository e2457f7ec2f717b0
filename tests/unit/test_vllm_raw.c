/* SPDX-License-Identifier: BSD-2-Clause */
/* What a raw log keeps of a vLLM service: the model and the roles, also of who joins later; nothing
 * else gets in. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/engine/engine.h"
#include "probe/engine/sink.h"
#include "probe/engine/vllm/role.h"
#include "probe/engine/vllm/vllm.h"
#include "probe/target/model_folder.h"
#include "tests/unit/model_configs.h"

#define SERVER 70
#define WORKER 71

static void put(struct buffer *b, const void *bytes, size_t size)
{
	assert_int_equal(buffer__append(b, bytes, size), 0);
}

static void put_role(struct buffer *b, const char *title)
{
	struct vllm_role role = vllm_role__of(title, strlen(title) + 1);

	put(b, &role, sizeof(role));
}

/* As if the folder was found (@found), or not yet. */
static void put_folders(struct buffer *b, bool found)
{
	static struct model_folders m;

	memset(&m, 0, sizeof(m));
	m.count = found;
	assert_int_equal(model_config__parse(&m.item[0].config, "olmoe", config_olmoe,
					     strlen(config_olmoe), NULL, 0, NULL),
			 0);
	strcpy(m.item[0].name, "olmoe");
	assert_int_equal(model_folders__save(&m, b), 0);
}

static struct buffer service(bool found)
{
	const int32_t pid = SERVER;
	struct buffer b = { 0 };

	put(&b, &pid, sizeof(pid));
	put_role(&b, "vllm");
	put_folders(&b, found);
	return b;
}

static struct buffer worker(bool found)
{
	struct buffer b = { 0 };

	put_role(&b, "VLLM::Worker_PP1_TP0");
	put_folders(&b, found);
	return b;
}

static struct engine *replayed(const struct buffer *b)
{
	struct engine *g;

	assert_int_equal(engine_vllm.replay(&g, b->data, b->size, NULL), 0);
	return g;
}

/* What is saved of a replay is what it was made of. */
static void saved_again(void **state)
{
	struct buffer head = service(true), member = worker(true), again = { 0 };
	struct engine *g = replayed(&head);

	assert_int_equal(engine_vllm.load_member(g, WORKER, member.data, member.size, NULL), 0);
	assert_string_equal(engine_vllm.model(g)->architecture, "olmoe");
	assert_int_equal(engine_vllm.save(g, &again), 0);
	assert_int_equal(again.size, head.size);
	assert_memory_equal(again.data, head.data, head.size);
	again.size = 0;
	assert_int_equal(engine_vllm.save_member(g, WORKER, &again), 0);
	assert_int_equal(again.size, member.size);
	assert_memory_equal(again.data, member.data, member.size);
	engine_vllm.free(g);
	buffer__free(&again);
	buffer__free(&member);
	buffer__free(&head);
}

/* Who joins may be the first that names the model. */
static void folder_of_a_member(void **state)
{
	struct buffer head = service(false), none = worker(false), member = worker(true);
	struct engine *g = replayed(&head);

	assert_null(engine_vllm.model(g));
	assert_int_equal(engine_vllm.load_member(g, WORKER, none.data, none.size, NULL), 0);
	assert_null(engine_vllm.model(g));
	assert_int_equal(engine_vllm.load_member(g, WORKER + 1, member.data, member.size, NULL), 0);
	assert_string_equal(engine_vllm.model(g)->name, "olmoe");
	assert_int_equal(engine_vllm.load_member(g, WORKER + 2, none.data, none.size, NULL), 0);
	assert_string_equal(engine_vllm.model(g)->name, "olmoe");
	engine_vllm.free(g);
	buffer__free(&member);
	buffer__free(&none);
	buffer__free(&head);
}

/* Copied, so that a read past the end is seen. */
static void *cut_off(const struct buffer *b, size_t size)
{
	void *bytes = malloc(size ? size : 1);

	assert_non_null(bytes);
	memcpy(bytes, b->data, size);
	return bytes;
}

static void cut_everywhere(void **state)
{
	struct buffer head = service(true), member = worker(true);
	struct engine *g = replayed(&head), *none;

	for (size_t n = 0; n < head.size; n++) {
		struct error e = { 0 };
		void *bytes = cut_off(&head, n);

		assert_int_equal(engine_vllm.replay(&none, bytes, n, &e), -EBADMSG);
		assert_null(none);
		assert_non_null(strstr(e.what, "damaged"));
		free(bytes);
	}
	for (size_t n = 0; n < member.size; n++) {
		struct error e = { 0 };
		void *bytes = cut_off(&member, n);

		assert_int_equal(engine_vllm.load_member(g, WORKER, bytes, n, &e), -EBADMSG);
		assert_non_null(strstr(e.what, "process 71"));
		free(bytes);
	}
	engine_vllm.free(g);
	buffer__free(&member);
	buffer__free(&head);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(saved_again),
		cmocka_unit_test(folder_of_a_member),
		cmocka_unit_test(cut_everywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
