# SPDX-License-Identifier: BSD-2-Clause
"""What docs/engines.md promises of each engine: a cell names how a thing is known and the test that
shows it. What is not listed is unverified. When the test has ended it writes what it showed, or
that it failed (lib.shown); `make engines-doc` takes that over into engines.json and the document."""
from __future__ import annotations

from dataclasses import dataclass

EXACT, INFERRED, NOT_VISIBLE = "exact", "inferred", "not visible"
UNVERIFIED = "unverified"
STATES = (EXACT, INFERRED, NOT_VISIBLE)  # a test that shows more than is promised keeps the promise

LLAMA = "llama.cpp on CPU (the xllamacpp build)"
SERVE = "`transformers serve`"
CONTINUOUS_SERVE = "`transformers serve --continuous-batching`"
GENERATE = "own servers around `generate()`"
LIBTORCH = "any libtorch program"
VLLM_AVX2 = "vLLM on CPU, AVX2"
VLLM_AVX512 = "vLLM on CPU, AVX512"
VLLM_BFLOAT16 = "vLLM on CPU, AVX512 with bfloat16"
VLLM_AMX = "vLLM on CPU, AMX"
VLLM = {"_C_AVX2.abi3.so": VLLM_AVX2, "_C_AVX512.abi3.so": VLLM_AVX512,
        "_C.abi3.so": VLLM_BFLOAT16}  # by the library that its workers have mapped
ENGINES = (LLAMA, SERVE, CONTINUOUS_SERVE, GENERATE, LIBTORCH, *VLLM.values(), VLLM_AMX)

ABILITIES = ("expert ids", "gate weights", "tokens", "positions", "requests", "begin and end",
             "cached prefix", "launches", "several processes")
ROUTING = ABILITIES[:4]


@dataclass(frozen=True)
class Cell:
    state: str
    test: str  # below tests/e2e, without parameters


def cells(test: str, **states: str) -> dict[str, Cell]:
    """Routing is exact; what else is known, and how."""
    named = {name.replace("_", " "): state for name, state in states.items()}
    return {ability: Cell(state, test)
            for ability, state in {**dict.fromkeys(ROUTING, EXACT), **named}.items()}


PROMISED: dict[str, dict[str, Cell]] = {
    LLAMA: cells("test_exact.py::test_exact", requests=EXACT, begin_and_end=EXACT,
                 cached_prefix=EXACT)
    | {"several processes": Cell(EXACT, "test_service.py::test_server_is_started_again")},
    # Some names are exact, some not: a promise is the least that every run shows.
    SERVE: cells("test_exact_transformers.py::test_serve", requests=INFERRED,
                 begin_and_end=INFERRED),
    CONTINUOUS_SERVE: cells("test_exact_transformers.py::test_serve_continuous",
                            requests=INFERRED, begin_and_end=INFERRED, cached_prefix=EXACT),
    GENERATE: cells("test_exact_transformers.py::test_generate", requests=NOT_VISIBLE,
                    begin_and_end=INFERRED),
    LIBTORCH: cells("test_exact_transformers.py::test_plain_torch", gate_weights=NOT_VISIBLE,
                    requests=NOT_VISIBLE, begin_and_end=INFERRED),
    VLLM_BFLOAT16: cells("test_exact_vllm.py::test_exact", requests=INFERRED,
                         begin_and_end=INFERRED, cached_prefix=EXACT, several_processes=EXACT),
}
