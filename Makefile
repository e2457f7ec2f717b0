# SPDX-License-Identifier: BSD-2-Clause
# moeprobe: everything is built into $(O). `make help` lists the targets; V=1 shows commands,
# SAN=1 builds with address and undefined-behaviour sanitizers into build/san.

O ?= build$(if $(SAN),/san)
PY := .venv/bin/python
CC := $(if $(filter default,$(origin CC)),cc,$(CC))
CXX := $(if $(filter default,$(origin CXX)),c++,$(CXX))
CLANG ?= clang
BPFTOOL ?= $(or $(wildcard /usr/sbin/bpftool),bpftool)
VERSION := 0.1.0

.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules
ifneq ($(V),1)
Q := @
say = @printf '  %-7s %s\n' '$1' '$(patsubst $(O)/%,%,$2)';
endif

PKGS := libbpf libelf libdw zydis json-c nettle ncursesw zlib libzstd libcap libseccomp
CPPFLAGS += -I. -I$(O) -D_GNU_SOURCE -DMOEPROBE_VERSION='"$(VERSION)"'
CFLAGS ?= -O2 -g
CFLAGS += -std=c11 -Wall -Wextra -Werror -Wno-unused-parameter -Wstrict-prototypes \
	  -Wmissing-prototypes -fno-common -fstack-protector-strong
LDLIBS_collector = -lbpf -ldw -lelf -llzma -lZydis -lz -lzstd -lcap -lseccomp -ljson-c -lnettle \
		    -lpthread -lm
LDLIBS_analyzer = -ljson-c -lncursesw -ltinfo -lz -lzstd -lcap -lm
ifdef SAN
# The checks that sanitizers insert make GCC 12 see overflows that are none.
CFLAGS += -Wno-stringop-overflow -Wno-maybe-uninitialized
CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LDFLAGS += -fsanitize=address,undefined
endif

# --- what is built from what ------------------------------------------------------------------
sources = $(sort $(wildcard $(addsuffix /*.c,$1)))
objects = $(patsubst %.c,$(O)/%.o,$(call sources,$1))

SHARED_ROOMS := probe/base collector/trace
PROBE_ROOMS := probe/target probe/attach probe/engine $(wildcard probe/engine/*/)
COLLECTOR_ROOMS := collector
ANALYZER_ROOMS := analyzer $(filter-out analyzer/web/,$(wildcard analyzer/*/))
clean_rooms = $(patsubst %/,%,$1)

SHARED_OBJ := $(call objects,$(SHARED_ROOMS))
PROBE_OBJ := $(call objects,$(call clean_rooms,$(PROBE_ROOMS)))
COLLECTOR_OBJ := $(filter-out $(O)/collector/main.o,$(call objects,$(COLLECTOR_ROOMS)))
ANALYZER_OBJ := $(filter-out $(O)/analyzer/main.o,$(call objects,$(call clean_rooms,$(ANALYZER_ROOMS))))

BPF_SRC := $(sort $(wildcard probe/bpf/*.bpf.c))
BPF_OBJ := $(BPF_SRC:%.c=$(O)/%.o)
SKELETON := $(O)/probe/bpf/probe.skel.h

UNIT_SRC := $(sort $(wildcard tests/unit/test_*.c))
UNIT_BIN := $(UNIT_SRC:%.c=$(O)/%)
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_BIN := $(FUZZ_SRC:%.c=$(O)/%)
TOOL_SRC := $(filter-out tests/tools/fake_torch.c,$(sort $(wildcard tests/tools/*.c)))
TOOL_BIN := $(TOOL_SRC:%.c=$(O)/%) $(O)/tests/tools/fake_llama $(O)/tests/tools/fake_llama_layout \
	    $(O)/tests/tools/std_select $(O)/tests/golden/write_golden

.PHONY: all demo check check-unit check-fuzz check-e2e check-layers check-bpf check-full bench install \
	format format-check clean golden raw-vllm engines-doc help setup tools
all: $(O)/moeprobe $(O)/moeprobe-collector ## build moeprobe and moeprobe-collector

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## install what is missing (Debian packages, Python environment)
	@scripts/setup

# --- kernel programs --------------------------------------------------------------------------
MULTIARCH := $(shell $(CC) -print-multiarch 2>/dev/null)
ARCH := $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(shell uname -m)))
$(O)/probe/bpf/%.bpf.o: probe/bpf/%.bpf.c
	@mkdir -p $(@D)
	$(call say,BPF,$@)
	$(Q)$(CLANG) -g -O2 -Wall -Werror -target bpf -D__TARGET_ARCH_$(ARCH) -I. \
		-I/usr/include/$(MULTIARCH) -MMD -MP -c $< -o $@

$(O)/probe/bpf/probe.o: $(BPF_OBJ)
	$(call say,BPFLINK,$@)
	$(Q)$(BPFTOOL) gen object $@ $^

$(SKELETON): $(O)/probe/bpf/probe.o
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name probe > $@

# --- programs ---------------------------------------------------------------------------------
$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(COLLECTOR_OBJ) $(O)/collector/main.o: | $(SKELETON)

$(O)/moeprobe-collector: $(O)/collector/main.o $(COLLECTOR_OBJ) $(PROBE_OBJ) $(SHARED_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS_collector)

$(O)/moeprobe: $(O)/analyzer/main.o $(ANALYZER_OBJ) $(SHARED_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS_analyzer)

install: all ## install below PREFIX (default /usr/local)
	install -d $(DESTDIR)$(or $(PREFIX),/usr/local)/bin
	install -m 755 $(O)/moeprobe $(O)/moeprobe-collector $(DESTDIR)$(or $(PREFIX),/usr/local)/bin

# --- tests ------------------------------------------------------------------------------------
$(O)/tests/unit/%: $(O)/tests/unit/%.o $(COLLECTOR_OBJ) $(PROBE_OBJ) $(ANALYZER_OBJ) $(SHARED_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS_collector) $(LDLIBS_analyzer)

# The tests of the kernel programs share a stage, and a process to look at.
$(O)/tests/unit/bpf_play.o: | $(SKELETON)
$(O)/tests/tools/ggml_double: tests/tools/ggml_double.h
$(O)/tests/tools/aten_double: tests/tools/aten_double.h
$(O)/tests/unit/test_bpf_%: $(O)/tests/unit/test_bpf_%.o $(O)/tests/unit/bpf_play.o \
		| $(O)/tests/tools/ggml_double $(O)/tests/tools/aten_double
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lcmocka -lbpf

# Compared with the standard library of C++.
$(O)/tests/unit/test_aten_choice: | $(O)/tests/tools/std_select

# Fuzzers compile what they test with clang, sanitizers on.
REPLAY_SRC := $(addprefix collector/,replay.c raw_log.c assembly.c context_list.c coverage.c known_requests.c loss.c \
	      model_record.c request_record.c step_record.c stream.c stream_sink.c waiting_requests.c)
FUZZ_ROOMS := $(call sources,probe/base collector/trace $(call clean_rooms,$(PROBE_ROOMS))) \
	      $(REPLAY_SRC)
$(O)/tests/fuzz/%: tests/fuzz/%.c $(FUZZ_ROOMS)
	@mkdir -p $(@D)
	$(call say,FUZZ,$@)
	$(Q)$(CLANG) $(CPPFLAGS) -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=all -o $@ $^ $(LDLIBS_collector)

# Small programs that tests run as targets.
$(O)/tests/tools/%: tests/tools/%.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) -O2 -g -I. -Wall -Wextra -Werror -Wno-unused-parameter -rdynamic -o $@ $< -lpthread
FAKE_FLAGS := -O2 -g -fno-omit-frame-pointer -fno-shrink-wrap -rdynamic -Wall -Wextra -Werror
$(O)/tests/tools/fake_llama: tests/tools/fake_llama.cc
	@mkdir -p $(@D)
	$(call say,CXX,$@)
	$(Q)$(CXX) $(FAKE_FLAGS) -o $@ $<
$(O)/tests/tools/fake_llama_layout: tests/tools/fake_llama.cc
	@mkdir -p $(@D)
	$(call say,CXX,$@)
	$(Q)$(CXX) $(FAKE_FLAGS) -DPOS_OFFSET=72 -o $@ $<
$(O)/tests/tools/std_select: tests/tools/std_select.cc
	@mkdir -p $(@D)
	$(call say,CXX,$@)
	$(Q)$(CXX) -O2 -g -Wall -Wextra -Werror -o $@ $<
$(O)/tests/golden/write_golden: $(O)/tests/golden/write_golden.o $(ANALYZER_OBJ) $(SHARED_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS_analyzer)
tools: $(TOOL_BIN)

# Once, when a version of the stream is frozen: what it writes is committed and never made again.
GOLDEN := tests/golden/v$(shell sed -n 's/^.define TRACE_VERSION //p' collector/trace/records.h)
golden: all tools ## write the golden recordings of this version of the stream
	@mkdir -p $(GOLDEN)
	$(PY) tests/lib/golden.py $(O) $(GOLDEN)

raw-vllm: all ## record anew the vLLM that `make check` replays (after a change of probe/abi; needs root)
	@scripts/setup --vllm
	$(PY) tests/lib/raw_vllm.py

check-layers: ## fail on an include against the architecture
	@python3 scripts/check_layers.py

check-bpf: $(BPF_OBJ) ## fail on a kernel program against the rules for kernel programs
	@python3 scripts/check_bpf.py $(BPF_OBJ)

check-unit: $(UNIT_BIN) ## run the unit tests (SAN=1: with sanitizers)
	@scripts/run-unit $(UNIT_BIN)

FUZZ_SECONDS ?= 10
check-fuzz: $(FUZZ_BIN) ## run every fuzzer for FUZZ_SECONDS
	@scripts/run-fuzz $(FUZZ_SECONDS) $(FUZZ_BIN)

check-e2e: all tools ## run the end-to-end tests on a real server
	$(PY) -m pytest -q tests/e2e -m "not full"

check: ## install, build, run all tests
	@scripts/setup
	+@$(MAKE) --no-print-directory check-layers check-bpf all tools
	+@$(MAKE) --no-print-directory SAN=1 check-unit
	+@$(MAKE) --no-print-directory check-fuzz
	+@$(MAKE) --no-print-directory check-e2e

check-full: all tools ## the long tests too, and vLLM's environment for them (PART=name: one part)
	@scripts/setup --vllm
	$(PY) -m pytest -q tests/e2e $(if $(PART),-k $(PART))

engines-doc: ## write the table of docs/engines.md anew, with what tests showed since
	$(PY) tests/lib/engines_doc.py

bench: all tools ## measure cost and latency; prints ratios with their noise
	$(PY) tests/bench/bench.py

demo: ## install, build, start a real server on a small model, attach, show the picture
	@scripts/demo

FORMATTED = $(shell git ls-files '*.c' '*.h')
format: ## format the C sources
	clang-format -i $(FORMATTED)
format-check: ## fail if `make format` would change anything
	@clang-format --dry-run -Werror $(FORMATTED)

clean: ## remove what was built
	rm -rf build

-include $(shell find $(O) -name '*.d' 2>/dev/null)
