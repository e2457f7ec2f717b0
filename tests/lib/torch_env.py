# SPDX-License-Identifier: BSD-2-Clause
"""The Python environment of the servers on PyTorch. The tests run in another one (.venv), and run
this one's Python for servers, models and the reference."""
from __future__ import annotations

import os
from pathlib import Path

from lib.moeprobe import ROOT

ENVIRONMENT = ROOT / ".venv-transformers"
PYTHON = ENVIRONMENT / "bin" / "python"
TRANSFORMERS = ENVIRONMENT / "bin" / "transformers"


def environment() -> dict[str, str]:
    """For every process started from there: no network, and two threads that sleep while they wait
    (those that spin take the processors of what else a test runs)."""
    return os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "2",
                         "OMP_WAIT_POLICY": "PASSIVE",
                         "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONUNBUFFERED": "1",
                         "TOKENIZERS_PARALLELISM": "false"}


def missing() -> str:
    """Why the environment is not there, as scripts/setup noted it; "" if it is."""
    if (ENVIRONMENT / ".requirements").exists():
        return ""
    noted = ENVIRONMENT / ".unavailable"
    return noted.read_text().strip() if noted.exists() else \
        f"{ENVIRONMENT.name} is not there: run scripts/setup"


def log_tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
