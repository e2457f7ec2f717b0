# SPDX-License-Identifier: BSD-2-Clause
"""vLLM's Python environment. It pins a torch of its own and an older transformers, so it is apart
from that of the other servers on PyTorch, whose reference judges it."""
from __future__ import annotations

from lib import torch_env
from lib.moeprobe import BUILD, ROOT

ENVIRONMENT = ROOT / ".venv-vllm"
PYTHON = ENVIRONMENT / "bin" / "python"
VLLM = ENVIRONMENT / "bin" / "vllm"
# What it compiles for a model is kept: a start takes a minute and a half without, half of it with.
CACHE = BUILD / "vllm-cache"


def environment() -> dict[str, str]:
    """For a server: no network, no statistics sent home, one thread, 1 GiB of keys and values at
    most, of which tests take less by a number of blocks."""
    return torch_env.environment() | {
        "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CACHE_ROOT": str(CACHE)}


def missing() -> str:
    """Why vLLM cannot be tested here; "" if it can."""
    if without := torch_env.missing():
        return without
    if (ENVIRONMENT / ".requirements").exists():
        return ""
    noted = ENVIRONMENT / ".unavailable"
    return noted.read_text().strip() if noted.exists() else \
        f"{ENVIRONMENT.name} is not there: run scripts/setup --vllm"
