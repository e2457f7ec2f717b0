# SPDX-License-Identifier: BSD-2-Clause
"""Every routing decision of real servers under real load, against the oracle."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lib.abilities import LLAMA
from lib.exact import capture, check_totals, largest_step, report
from lib.judge import judge
from lib.models import EXACT, model
from lib.oracle import Oracle
from lib.server import DEFAULT_SETTINGS, Options, running
from lib.shown import Shows

pytestmark = pytest.mark.root

# One forward computation of up to 1024 rows, besides those cut at 512.
LARGE = Options(ubatch=1024, slots=8, context=16384)


@pytest.mark.parametrize(("arch", "options"), [
    ("olmoe", Options()),
    ("qwen3moe", LARGE),
    ("mixtral", Options(load_mode="none")),
    ("olmoe", replace(LARGE, kv_unified=True, threads=1)),
], ids=["olmoe", "qwen3moe-ubatch1024", "mixtral-no-mapping", "olmoe-kv-unified"])
def test_exact(arch: str, options: Options, tmp_path: Path,
               capsys: pytest.CaptureFixture[str], shows: Shows) -> None:
    """All ids and their order, all weights, all rows, all requests; nothing lost."""
    path = model(EXACT[arch])
    with running(path, tmp_path / "server.log", options) as server:
        picture, answers, early = capture(server, tmp_path / "r.moeprobe", seed=1)
    assert len(answers) == 30
    verdict = judge(picture, answers, Oracle(path), optional=early)
    check_totals(picture)
    assert largest_step(picture) > 512 or options.ubatch <= 512
    assert verdict.unfinished >= 3 and verdict.slots_known >= 20
    assert verdict.decisions > 10000
    report(verdict, f"{arch}, f32 cache, ubatch {options.ubatch}", capsys)
    shows(LLAMA, picture, answers)


@pytest.mark.parametrize("arch", [
    "mixtral", pytest.param("olmoe", marks=pytest.mark.full),
    pytest.param("qwen3moe", marks=pytest.mark.full)])
def test_default_settings(arch: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """f16 cache, flash attention as the server decides: other sets only at near ties, rarely.
    The order among the chosen is held less tightly: large gates have large rounding errors."""
    path = model(EXACT[arch])
    with running(path, tmp_path / "server.log", DEFAULT_SETTINGS) as server:
        picture, answers, early = capture(server, tmp_path / "r.moeprobe", seed=2)
    verdict = judge(picture, answers, Oracle(path), tie_limit=1e-3, order_limit=5e-3,
                    weight_limit=0.02, optional=early)
    check_totals(picture)
    report(verdict, f"{arch}, default settings", capsys)
    assert len(verdict.set_ties) <= verdict.decisions / 1000
