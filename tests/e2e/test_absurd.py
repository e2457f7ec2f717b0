# SPDX-License-Identifier: BSD-2-Clause
"""Absurd values in the target's memory: counted as invalid, never believed, and the target runs
on exactly as without us. The target is tests/tools/fake_llama.cc; exactness is shown on real
servers."""
from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from lib.moeprobe import BUILD, Capture, children_of, kernel_objects, recording, wait_until
from lib.recording import STOPS, Recording, read

pytestmark = pytest.mark.root

FAKE = BUILD / "tests" / "tools" / "fake_llama"
STEPS, LAYERS, ROWS, THREADS, EXPERTS, K = 7, 3, 5, 2, 16, 4
GOOD = STEPS * (ROWS * (LAYERS - 1) + 1)  # the last layer computes one row a step
HARMLESS = ("good", "throw", "exec")
SPOILED = (
    "k-zero", "k-huge", "rows-huge", "rows-negative", "stride-huge", "data-unmapped",
    "weights-unmapped", "tensor-unmapped", "name-unterminated", "layer-huge",
    "expert-out-of-range", "expert-negative", "expert-repeated", "weight-nan", "weight-infinite",
    "type-wrong", "position-negative", "sequence-huge", "output-absurd", "tokens-huge",
    "ubatch-unmapped")


@contextmanager
def fake(program: Path, scenario: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([str(program), scenario, str(STEPS)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        yield process
    finally:
        process.kill()
        process.wait()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def placed(capture: Capture) -> bool:
    if capture.process.poll() is not None:
        raise RuntimeError(capture.said)
    return any(kind == "link" for kind, _ in kernel_objects(children_of(capture.process.pid)))


def run(scenario: str, tmp_path: Path) -> Recording:
    """The recording of one run, whose target did all that it does without us."""
    with fake(FAKE, scenario) as process, \
            recording(process.pid, tmp_path / "r.moeprobe") as capture:
        wait_until(lambda: placed(capture), "no probes were placed")
        go_on(process)
        assert process.stdout is not None
        if scenario != "exec":
            assert process.stdout.readline().split() == [
                "done", str(STEPS * LAYERS * THREADS), str(STEPS)]
            go_on(process)
        done = capture.wait(20)
        assert done.code == 0, done.err
        assert process.wait(10) == 0
    result = read(tmp_path / "r.moeprobe")
    assert result.complete
    wanted = "target_exec" if scenario == "exec" else "target_exit"
    assert STOPS[result.one("end").fields["stop"]] == wanted
    return result


def decisions(recorded: Recording) -> int:
    return sum(int(route.fields["rows"]) for route in recorded.of("route"))


def check_believable(recorded: Recording) -> None:
    for route in recorded.of("route"):
        ids, weights = route.columns["ids"], route.columns["weights"]
        assert route.fields["layer"] < LAYERS and route.fields["k"] == K
        assert np.all(ids < EXPERTS) and np.all(np.isfinite(weights))
        assert all(len(set(row)) == K for row in ids.tolist())
    for step in recorded.of("step"):
        assert step.fields["rows"] <= ROWS
        assert np.all(step.columns["position"] < STEPS * ROWS)


@pytest.mark.parametrize("scenario", HARMLESS)
def test_nothing_is_missing(scenario: str, tmp_path: Path) -> None:
    """Also where the probed functions throw, and up to where the target becomes another."""
    recorded = run(scenario, tmp_path)
    check_believable(recorded)
    assert decisions(recorded) == GOOD
    assert recorded.lost == 0 and not recorded.of("invalid")


@pytest.mark.parametrize("scenario", SPOILED)
def test_nothing_absurd_is_believed(scenario: str, tmp_path: Path) -> None:
    recorded = run(scenario, tmp_path)
    check_believable(recorded)
    assert decisions(recorded) < GOOD
    assert sum(one.fields["count"] for one in recorded.of("invalid")) >= STEPS
    assert recorded.lost == 0


def test_another_layout(tmp_path: Path) -> None:
    """Rows laid out as in older releases: derived right, or refused by name; never wrong."""
    with fake(FAKE.with_name("fake_llama_layout"), "good") as process, \
            recording(process.pid, tmp_path / "r.moeprobe") as capture:
        wait_until(lambda: capture.process.poll() is not None or placed(capture), "no end")
        if capture.process.poll() is not None:
            assert capture.process.returncode == 5
            assert "layout" in capture.said
            return
        go_on(process)
        assert process.stdout is not None and process.stdout.readline().startswith("done")
        go_on(process)
        assert capture.wait(20).code == 0
    recorded = read(tmp_path / "r.moeprobe")
    check_believable(recorded)
    assert decisions(recorded) == GOOD or sum(
        one.fields["count"] for one in recorded.of("invalid")) >= STEPS
