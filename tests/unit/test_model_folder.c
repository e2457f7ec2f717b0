/* SPDX-License-Identifier: BSD-2-Clause */
/* Model folders of real processes: found by what is mapped, open or named, and what is read there.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <nettle/sha2.h>

#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/target/model_folder.h"
#include "probe/target/opener.h"
#include "probe/target/target.h"
#include "tests/unit/child.h"
#include "tests/unit/model_configs.h"

#define MOE(layers) \
	"{\"model_type\":\"olmoe\",\"num_hidden_layers\":" #layers ",\"num_experts\":4," \
	"\"num_experts_per_tok\":2}"

/* Three experts of layer 1 and four in one of layer 2, of which F32 has fewest bytes. */
#define HEADER \
	"{\"__metadata__\":{\"format\":\"pt\",\"dtype\":\"F64\"}," \
	"\"model.layers.1.mlp.experts.2.up_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[8,8]," \
	"\"data_offsets\":[0,128]}," \
	"\"model.layers.2.mlp.experts.gate_up_proj\":{\"dtype\":\"BF16\",\"shape\":[4,8,8]," \
	"\"data_offsets\":[128,640]}," \
	"\"model.layers.2.mlp.experts.down_proj_bias\":{\"dtype\":\"F32\",\"shape\":[77,8]," \
	"\"data_offsets\":[640,700]}," \
	"\"model.layers.0.mlp.shared_experts.up_proj.weight\":{\"dtype\":\"F32\",\"shape\":[8,8]," \
	"\"data_offsets\":[700,9000]}," \
	"\"mtp.layers.0.mlp.experts.9.up_proj.weight\":{\"dtype\":\"F32\",\"shape\":[8,8]," \
	"\"data_offsets\":[9000,9100]}," \
	"\"model.layers.7.mlp.experts.0.up_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[8,8]," \
	"\"data_offsets\":[9100,9200]}}"

/* Everything lies below it. */
static char top[64];

static int set_up(void **state)
{
	strcpy(top, "/tmp/model-folder-XXXXXX");
	return mkdtemp(top) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", top);
	return system(command);
}

static const char *place(const char *name)
{
	static char path[2][512];
	static unsigned turn;
	char *out = path[turn++ % 2];

	snprintf(out, sizeof(path[0]), "%s/%s", top, name);
	return out;
}

/* Write @bytes to file @name below the top, and make its folders. */
static void put(const char *name, const void *bytes, size_t n)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s", place(name));
	for (char *at = path + strlen(top) + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		assert_true(!mkdir(path, 0755) || errno == EEXIST);
		*at = '/';
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, n), n);
	close(fd);
}

static void put_text(const char *name, const char *text)
{
	put(name, text, strlen(text));
}

/* A safetensors file with this header and @more bytes behind it. */
static void put_weights(const char *name, const char *header, size_t more)
{
	struct buffer b = { 0 };
	uint64_t n = strlen(header);

	assert_int_equal(buffer__append(&b, &n, 8), 0);
	assert_int_equal(buffer__append(&b, header, n), 0);
	assert_non_null(buffer__extend(&b, more));
	put(name, b.data, b.size);
	buffer__free(&b);
}

/* The beginning of a safetensors file as it enters a digest. */
static void digest_header(struct sha256_ctx *digest, const char *header)
{
	uint64_t n = strlen(header);

	sha256_update(digest, 8, (uint8_t *)&n);
	sha256_update(digest, n, (const uint8_t *)header);
}

static void check_digest(struct sha256_ctx *digest, const uint8_t *is)
{
	uint8_t expected[MODEL_DIGEST_SIZE];

	sha256_digest(digest, sizeof(expected), expected);
	assert_memory_equal(is, expected, sizeof(expected));
}

static int read_folders(struct model_folders *m, pid_t pid, struct error *e)
{
	struct error own = { 0 };
	struct target *t;
	int err;

	assert_int_equal(target__open(&t, pid, &opener_direct, &own), 0);
	err = model_folders__read(m, t, e);
	target__free(t);
	return err;
}

/* A shell in folder @cwd whose command line ends with @a and @b; it reads from @to. */
static pid_t start_shell(const char *cwd, const char *a, const char *b, int *to)
{
	int ends[2], ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(pipe(ready), 0);
	pid = fork_mortal();
	assert_true(pid >= 0);
	if (!pid) {
		if (chdir(cwd) || dup2(ends[0], 0) < 0 || dup2(ready[1], 1) < 0)
			_exit(1);
		close(ends[1]);
		execl("/bin/sh", "sh", "-c", "echo; read x", "serve", a, b, NULL);
		_exit(1);
	}
	close(ready[1]);
	close(ends[0]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	*to = ends[1];
	return pid;
}

/* What a process with these arguments has for models. */
static int read_named(struct model_folders *m, const char *a, const char *b, struct error *e)
{
	int to, err;
	pid_t pid = start_shell(top, a, b, &to);

	err = read_folders(m, pid, e);
	close(to);
	end(pid);
	return err;
}

static void reads_all_of_a_folder(void **state)
{
	struct sha256_ctx digest;
	struct model_folders m;
	struct error e = { 0 };
	const struct model_folder *f = &m.item[0];

	put_text("all/config.json", MOE(3));
	put_text("all/generation_config.json", "{\"eos_token_id\":[5,6]}");
	put_text("all/tokenizer.json", "{\"tokens\":1}");
	put_weights("all/model.safetensors", HEADER, 9200);
	assert_int_equal(read_named(&m, "--model", place("all/"), &e), 0);
	assert_int_equal(m.count, 1);
	assert_string_equal(f->name, "all");
	assert_string_equal(f->path, place("all"));
	assert_int_equal(f->config.experts, 4);
	assert_int_equal(f->config.k, 2);
	assert_int_equal(f->config.eos_count, 2);
	assert_int_equal(f->config.eos[1], 6);
	/* Layer 7 is behind the last, layer 0 shares. */
	assert_int_equal(f->layers_from_tensors, 1);
	assert_int_equal(f->config.moe_layers, 2);
	assert_int_equal(f->config.layer_ids[0], 1);
	assert_int_equal(f->config.layer_ids[1], 2);
	assert_int_equal(f->tensor_experts, 4);
	assert_string_equal(f->expert_type, "BF16");
	assert_true(f->has_digest && f->has_tokenizer_digest);
	sha256_init(&digest);
	sha256_update(&digest, strlen(MOE(3)), (const uint8_t *)MOE(3));
	digest_header(&digest, HEADER);
	check_digest(&digest, f->digest);
	sha256_update(&digest, 12, (const uint8_t *)"{\"tokens\":1}");
	check_digest(&digest, f->tokenizer_digest);
	assert_non_null(model_folders__find(&m, 4, 2, 1));
	assert_null(model_folders__find(&m, 4, 2, 0));
	assert_null(model_folders__find(&m, 8, 2, 1));
	assert_null(model_folders__find(&m, 4, 3, 1));
}

static void takes_shards_in_order_of_names(void **state)
{
	static const char second[] =
		"{\"model.layers.1.mlp.experts.3.w\":{\"dtype\":\"F16\",\"shape\":[1],"
		"\"data_offsets\":[0,2]}}";
	static const char first[] =
		"{\"model.layers.0.mlp.experts.1.w\":{\"dtype\":\"F16\",\"shape\":[1],"
		"\"data_offsets\":[0,2]}}";
	struct sha256_ctx digest;
	struct model_folders m;
	struct error e = { 0 };

	put_text("cut/config.json", MOE(2));
	put_text("cut/model.safetensors.index.json",
		 "{\"metadata\":{\"a\":\"no.safetensors\"},\"weight_map\":{\"x\":\"b.safetensors\","
		 "\"y\":\"a.safetensors\",\"z\":\"b.safetensors\"}}");
	put_weights("cut/b.safetensors", second, 2);
	put_weights("cut/a.safetensors", first, 2);
	put_weights("cut/model.safetensors", "{}", 0);
	assert_int_equal(read_named(&m, "--model=cut", "x", &e), 0);
	assert_int_equal(m.count, 1);
	assert_int_equal(m.item[0].layers_from_tensors, 0);
	assert_int_equal(m.item[0].tensor_experts, 4);
	assert_string_equal(m.item[0].expert_type, "F16");
	assert_true(m.item[0].has_digest);
	assert_false(m.item[0].has_tokenizer_digest);
	sha256_init(&digest);
	sha256_update(&digest, strlen(MOE(2)), (const uint8_t *)MOE(2));
	digest_header(&digest, first);
	digest_header(&digest, second);
	check_digest(&digest, m.item[0].digest);
	/* Without one of them it is no whole model, and has no digest. */
	assert_int_equal(unlink(place("cut/a.safetensors")), 0);
	assert_int_equal(read_named(&m, "--model=cut", "x", &e), 0);
	assert_int_equal(m.item[0].has_digest, 0);
	assert_int_equal(m.item[0].layers_from_tensors, 0);
}

static char mapped_path[512];

static void map_weights(void)
{
	int fd = open(mapped_path, O_RDONLY);

	if (mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED)
		_exit(1);
	close(fd);
}

static void open_weights(void)
{
	if (open(mapped_path, O_RDONLY) < 0)
		_exit(1);
}

static void finds_what_is_mapped_or_open(void **state)
{
	static void (*const bodies[])(void) = { map_weights, open_weights };

	put_text("used/config.json", MOE(2));
	put_weights("used/part.safetensors", "{}", 4096);
	snprintf(mapped_path, sizeof(mapped_path), "%s", place("used/part.safetensors"));
	for (size_t i = 0; i < 2; i++) {
		struct model_folders m;
		struct error e = { 0 };
		pid_t pid = spawn(bodies[i]);

		assert_int_equal(read_folders(&m, pid, &e), 0);
		assert_int_equal(m.count, 1);
		assert_string_equal(m.item[0].name, "used");
		assert_int_equal(m.item[0].config.moe_layers, 2);
		assert_int_equal(m.item[0].tensor_experts, MODEL_UNKNOWN);
		assert_int_equal(m.item[0].has_digest, 0); /* are there more files? */
		end(pid);
	}
}

static void names_models(void **state)
{
	static const struct {
		const char *folder, *name;
	} cases[] = {
		{ "hub/models--Qwen--Qwen3-30B-A3B/snapshots/0af1", "Qwen/Qwen3-30B-A3B" },
		{ "hub/models--tiny/snapshots/0af1", "tiny" },
		{ "models--a--b/models--c--d/snapshots/e", "c/d" },
		{ "models--a--b/c/snapshots/e", "e" },
		{ "models--a--b/c", "c" },
		{ "snapshots/models--a--b", "models--a--b" },
		{ "dots/.", "olmoe" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct model_folders m;
		struct error e = { 0 };
		char file[256];

		snprintf(file, sizeof(file), "%s/config.json", cases[i].folder);
		put_text(file, MOE(2));
		assert_int_equal(read_named(&m, cases[i].folder, "-x", &e), 0);
		assert_int_equal(m.count, 1);
		assert_string_equal(m.item[0].name, cases[i].name);
	}
}

/* A draft model beside the large one, the same twice, and what only looks like a model. */
static void finds_several(void **state)
{
	struct model_folders m;
	struct error e = { 0 };

	put_text("one/config.json", MOE(2));
	put_text("two/config.json", MOE(4));
	put_text("dense/config.json", config_llama);
	put_text("other/config.json", "{\"auths\":{}}");
	assert_int_equal(read_named(&m, "one", "two", &e), 0);
	assert_int_equal(m.count, 2);
	assert_null(model_folders__find(&m, 4, 2, 1));
	assert_ptr_equal(model_folders__find(&m, 4, 2, 3), &m.item[1]);
	assert_int_equal(read_named(&m, "one", place("one"), &e), 0);
	assert_int_equal(m.count, 1);
	assert_int_equal(read_named(&m, "dense", "one", &e), 0);
	assert_int_equal(m.count, 1);
	assert_int_equal(read_named(&m, "other", "nothing", &e), 0);
	assert_int_equal(m.count, 0);
}

static void says_why_there_is_none(void **state)
{
	struct model_folders m;
	struct error e = { 0 };

	put_text("dense/config.json", config_llama);
	put_text("broken/config.json", "{\"model_type\":\"olmoe\",");
	assert_int_equal(read_named(&m, "other", "dense", &e), -ENOTSUP);
	assert_int_equal(e.exit, EXIT_UNSUPPORTED);
	assert_string_equal(e.what, "model: failed to find experts in 'dense': the model is dense "
				    "(of 32 layers, none with a router)");
	error__clear(&e);
	assert_int_equal(read_named(&m, "broken", "-", &e), -EINVAL);
	assert_int_equal(e.exit, EXIT_UNSUPPORTED);
	assert_string_equal(e.what, "model: failed to read 'broken/config.json': it is broken, or "
				    "no JSON object");
}

/* Weights that lie are weights that say nothing. */
static void distrusts_weights(void **state)
{
	static const char *const headers[] = {
		"",    "{",       "[]",
		"{}}", "{\"a\":", "{\"model.layers.0.experts.1.w\":{\"dtype\":\"F32\"",
	};
	static const uint64_t lengths[] = { 0, 2, 100000001, UINT64_MAX, 1ull << 63 };
	struct model_folders m;

	put_text("lie/config.json", MOE(2));
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		put_weights("lie/model.safetensors", headers[i], 64);
		assert_int_equal(read_named(&m, "lie", "-", NULL), 0);
		assert_int_equal(m.count, 1);
		assert_int_equal(m.item[0].has_digest, 0);
	}
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		uint8_t bytes[9];

		memcpy(bytes, &lengths[i], 8);
		bytes[8] = '{';
		put("lie/model.safetensors", bytes, sizeof(bytes));
		assert_int_equal(read_named(&m, "lie", "-", NULL), 0);
		assert_int_equal(m.item[0].has_digest, 0);
	}
	/* Names that lead out of the folder. */
	put_weights("outside.safetensors", "{}", 0);
	put_text("lie/model.safetensors.index.json",
		 "{\"weight_map\":{\"x\":\"../outside.safetensors\"}}");
	assert_int_equal(unlink(place("lie/model.safetensors")), 0);
	assert_int_equal(read_named(&m, "lie", "-", NULL), 0);
	assert_int_equal(m.count, 1);
	assert_int_equal(m.item[0].has_digest, 0);
}

static void is_saved_and_loaded(void **state)
{
	static struct model_folders m, again;
	struct buffer b = { 0 };
	struct cursor at;

	put_text("all/config.json", MOE(3));
	put_text("two/config.json", config_olmoe);
	assert_int_equal(read_named(&m, "all", "two", NULL), 0);
	assert_int_equal(m.count, 2);
	assert_int_equal(model_folders__save(&m, &b), 0);
	at = cursor__over(b.data, b.size);
	assert_int_equal(model_folders__load(&again, &at), 0);
	assert_int_equal(cursor__left(&at), 0);
	assert_memory_equal(&m, &again, sizeof(m));
	for (size_t n = 0; n < b.size; n += 7) {
		at = cursor__over(b.data, n);
		assert_int_equal(model_folders__load(&again, &at), -EBADMSG);
	}
	/* Whatever the bytes say, what is loaded keeps its bounds. */
	for (size_t i = 0; i < b.size; i++) {
		uint8_t before = b.data[i];

		b.data[i] = 0xff;
		at = cursor__over(b.data, b.size);
		if (!model_folders__load(&again, &at))
			assert_true(again.count == 2 &&
				    again.item[0].config.moe_layers <= MODEL_LAYERS_MAX &&
				    model_config__is_sane(&again.item[0].config));
		b.data[i] = before;
	}
	buffer__free(&b);
}

/* --- a hub's cache -----------------------------------------------------------------------------
 */

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define OTHER "89abcdef0123456789abcdef0123456789abcdef"
#define BLOB "89abcdef0123456789abcdef0123456789abcdef89abcdef0123456789abcdef"

static const char *const variables[] = { "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE",
					 "TRANSFORMERS_CACHE", "XDG_CACHE_HOME" };

/* Two revisions of one model in cache @cache, with as many layers as their numbers. */
static void put_model(const char *cache, const char *name)
{
	char path[256], text[64];

	snprintf(path, sizeof(path), "%s/%s/refs/main", cache, name);
	put_text(path, COMMIT);
	snprintf(path, sizeof(path), "%s/%s/refs/dev", cache, name);
	put_text(path, OTHER);
	for (int layers = 2; layers <= 3; layers++) {
		snprintf(path, sizeof(path), "%s/%s/blobs/config%d", cache, name, layers);
		put_text(path, layers == 2 ? MOE(2) : MOE(3));
		snprintf(path, sizeof(path), "%s/%s/snapshots/%s/x", cache, name,
			 layers == 2 ? COMMIT : OTHER);
		put_text(path, "");
		strcpy(strrchr(path, '/'), "/config.json");
		snprintf(text, sizeof(text), "../../blobs/config%d", layers);
		unlink(place(path));
		assert_int_equal(symlink(text, place(path)), 0);
	}
}

static void assert_from_hub(const char *a, const char *b, uint32_t layers, const char *name)
{
	struct model_folders m;
	struct error e = { 0 };

	assert_int_equal(read_named(&m, a, b, &e), 0);
	assert_int_equal(m.count, layers ? 1 : 0);
	if (!layers)
		return;
	assert_string_equal(m.item[0].name, name);
	assert_int_equal(m.item[0].config.moe_layers, layers);
}

static void forget_variables(void)
{
	for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++)
		unsetenv(variables[i]);
	setenv("HOME", place("nowhere"), 1);
}

static void finds_the_cache(void **state)
{
	static const struct {
		const char *variable, *below;
	} cases[] = {
		{ "HF_HOME", "home" },
		{ "HF_HUB_CACHE", "home/hub" },
		{ "HUGGINGFACE_HUB_CACHE", "home/hub" },
		{ "TRANSFORMERS_CACHE", "home/hub" },
		{ "XDG_CACHE_HOME", "xdg" },
		{ "HOME", "user" },
	};
	put_model("home/hub", "models--org--moe");
	put_model("xdg/huggingface/hub", "models--org--moe");
	put_model("user/.cache/huggingface/hub", "models--org--moe");
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		forget_variables();
		assert_from_hub("--model", "org/moe", 0, "");
		setenv(cases[i].variable, place(cases[i].below), 1);
		assert_from_hub("--model", "org/moe", 2, "org/moe");
	}
	forget_variables();
	setenv("HOME", place("home"), 1);
	setenv("HF_HUB_CACHE", "~/hub", 1);
	assert_from_hub("--model", "org/moe", 2, "org/moe");
	/* One that is set and empty of it is the only one. */
	setenv("HF_HUB_CACHE", place("nowhere"), 1);
	setenv("HF_HOME", place("home"), 1);
	assert_from_hub("--model", "org/moe", 0, "");
	forget_variables();
}

static void finds_the_revision(void **state)
{
	static const struct {
		const char *a, *b;
		uint32_t layers;
	} cases[] = {
		{ "org/moe", "-x", 2 },
		{ "--model=org/moe", "x", 2 },
		{ "tiny", "x", 2 },
		{ "org/moe", "--revision=dev", 3 },
		{ "--revision=main", "org/moe", 2 },
		{ "org/moe@dev", "x", 3 },
		{ "org/moe@" OTHER, "x", 3 },
		{ "org/moe", "--revision=" OTHER, 3 },
		{ "org/moe@none", "x", 0 },
		{ "org/moe", "--revision=../refs/dev", 0 },
		{ "org/moe@../refs/dev", "x", 0 },
		{ "org/none", "x", 0 },
		{ "org/../moe", "x", 0 },
		{ "org--moe", "x", 0 },
		{ "org/moe/", "x", 0 },
		{ "/org/moe", "x", 0 },
		{ "bad/moe", "x", 0 },
	};

	forget_variables();
	setenv("HF_HOME", place("home"), 1);
	put_model("home/hub", "models--org--moe");
	put_model("home/hub", "models--tiny");
	put_model("home/hub", "models--bad--moe");
	put_text("home/hub/models--bad--moe/refs/main", "../../models--tiny/snapshots/" COMMIT);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_from_hub(cases[i].a, cases[i].b, cases[i].layers,
				strcmp(cases[i].a, "tiny") ? "org/moe" : "tiny");
	forget_variables();
}

/* Mapped from blobs/: of the snapshot that leads there. */
static void finds_what_a_blob_is_of(void **state)
{
	char link[256];

	put_model("home/hub", "models--org--moe");
	put_weights("home/hub/models--org--moe/blobs/" BLOB, "{}", 4096);
	snprintf(mapped_path, sizeof(mapped_path), "%s",
		 place("home/hub/models--org--moe/blobs/" BLOB));
	for (int linked = 0; linked < 2; linked++) {
		struct model_folders m;
		struct error e = { 0 };
		pid_t pid;

		snprintf(link, sizeof(link), "%s",
			 place("home/hub/models--org--moe/snapshots/" COMMIT "/model.safetensors"));
		if (linked)
			assert_int_equal(symlink("../../blobs/" BLOB, link), 0);
		pid = spawn(map_weights);
		assert_int_equal(read_folders(&m, pid, &e), 0);
		assert_int_equal(m.count, linked);
		if (linked)
			assert_string_equal(m.item[0].name, "org/moe");
		end(pid);
	}
	unlink(link);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_all_of_a_folder),
		cmocka_unit_test(takes_shards_in_order_of_names),
		cmocka_unit_test(finds_what_is_mapped_or_open),
		cmocka_unit_test(names_models),
		cmocka_unit_test(finds_several),
		cmocka_unit_test(says_why_there_is_none),
		cmocka_unit_test(distrusts_weights),
		cmocka_unit_test(is_saved_and_loaded),
		cmocka_unit_test(finds_the_cache),
		cmocka_unit_test(finds_the_revision),
		cmocka_unit_test(finds_what_a_blob_is_of),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
