# SPDX-License-Identifier: BSD-2-Clause
"""Targets that lie: impossible values in their memory, layouts that nobody knows, the end at the
wrong moment. Nothing of it is believed, all of it is counted, what is right stays exact, and the
target does all that it does without us."""
from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from lib.fake_llama import (
    DECISIONS,
    EXPERTS,
    FAKE,
    FIRST_TASK,
    HITS,
    LAYERS,
    ROWS,
    await_placed,
    check_sums,
    compiled,
    coverage,
    covered,
    hits,
    invalid,
    record_whole,
    routed,
    scenarios,
    target,
)
from lib.moeprobe import moeprobe, recording, wait_until
from lib.recording import STOPS, UNKNOWN, Recording, read

pytestmark = pytest.mark.root

STEPS = 30  # more than enough results for the engine to give up on a layout
ENDING_TARGET_GONE = 3


@dataclass(frozen=True)
class Outcome:
    """What one spoiled step amounts to."""

    cause: str = ""       # of the invalid counts
    count: int = 0
    routes: bool = False  # its routes are there and right
    rows: bool = True     # its step is there and right
    refused: int = 0      # results whose rows the kernel program could not read
    known: bool = True    # the request keeps its task
    doubted: bool = False # nothing else from the first capture on: the layout is refused
    unseen: bool = False    # nothing shows that it was a result
    plausible: bool = False # alone it is absurd only against what was there before


def router(cause: str, doubted: bool = False, plausible: bool = False) -> Outcome:
    return Outcome(cause, LAYERS, doubted=doubted, plausible=plausible)


def rows(cause: str = "row") -> Outcome:
    """Rows that the reader refuses, and with them their routes."""
    return Outcome(cause, 1 + LAYERS, rows=False, doubted=True)


def unread_rows(cause: str) -> Outcome:
    """Rows that the kernel program could not read: its routes are nobody's, but not lost."""
    return Outcome(cause, 1, rows=False, refused=LAYERS)


def identity(cause: str, count: int = 1, known: bool = True) -> Outcome:
    return Outcome(cause, count, routes=True, known=known)


OUTCOMES = {
    "k-zero": router("shape"),
    "k-huge": router("shape"),
    "k-other": router("shape", plausible=True),
    "rows-huge": router("shape"),
    "rows-negative": router("shape"),
    "rows-other": router("row_count"),
    "experts-other": router("shape", plausible=True),
    "stride-huge": router("shape"),
    "data-unmapped": router("fault"),
    "weights-unmapped": router("fault"),
    "tensor-unmapped": Outcome("unreadable", LAYERS, unseen=True), # or any multiplication
    "tensor-kernel": router("fault"),
    "name-unterminated": router("shape", doubted=True),
    "layer-huge": router("shape", doubted=True),
    "layer-negative": router("shape", doubted=True),
    "expert-out-of-range": router("expert_range", doubted=True),
    "expert-negative": router("expert_range", doubted=True),
    "expert-repeated": router("expert_repeated", doubted=True),
    "weight-nan": router("weight", doubted=True),
    "weight-infinite": router("weight", doubted=True),
    "type-wrong": router("shape"),
    "position-negative": rows(),
    "position-huge": rows(),
    "sequence-huge": rows(),
    "sequence-negative": rows(),
    "sequence-none": rows(),
    "sequence-unmapped": unread_rows("fault"),
    "token-negative": rows(),
    "token-unmapped": unread_rows("fault"),
    "output-absurd": rows(),
    "tokens-zero": unread_rows("shape"),
    "tokens-huge": unread_rows("shape"),
    "ubatch-unmapped": unread_rows("fault"),
    "slot-negative": identity("identity", known=False),
    "slot-huge": identity("identity", known=False),
    "line-unmapped": identity("fault", known=False),
    "function-unmapped": identity("fault", known=False),
    "tasks-unmapped": identity("fault"),
    "tasks-reversed": identity("shape"),
    "tasks-huge": identity("shape"),
    "tasks-many": identity("shape", 4),
    "task-negative": identity("", 0),   # an order to the server has no number
    "prompt-unmapped": identity("fault"),
    "prompt-reversed": identity("shape"),
    "prompt-wrong": identity("identity"),
    "client-unmapped": identity("", 0), # no client's id: most tasks have none
}
COMMON = ("rows-negative", "data-unmapped", "expert-repeated", "weight-nan", "sequence-huge",
          "tokens-huge", "tasks-unmapped")
ALONE = [pytest.param(name, marks=() if name in COMMON else pytest.mark.full)
         for name in OUTCOMES]


def spoiled(names: list[str]) -> dict[int, Outcome]:
    """Number of the step -> what is wrong with it, in a run of `each`."""
    return {2 * place + 1: OUTCOMES[name] for place, name in enumerate(names)}


def check_each(recorded: Recording, bad: dict[int, Outcome]) -> None:
    """Good steps are exact, and of the spoiled ones all that is not spoiled."""
    wanted = {number: list(range(LAYERS)) for number in range(2 * len(bad) + 1)}
    causes: dict[str, int] = {}
    for number, outcome in bad.items():
        wanted[number] = list(range(LAYERS)) if outcome.routes else []
        if not outcome.rows:
            del wanted[number]
        if outcome.count:
            causes[outcome.cause] = causes.get(outcome.cause, 0) + outcome.count
        if outcome.refused:
            causes["row"] = causes.get("row", 0) + outcome.refused
    assert routed(recorded) == wanted
    assert invalid(recorded) == causes
    assert not recorded.lost


def fold(line: dict[str, int]) -> dict[str, int]:
    folded = line.get("invalid", 0) + line.get("not_routed", 0)
    return {name: count for name, count in line.items() if name != "not_routed"} | (
        {"invalid": folded} if folded else {})


def check_each_covered(recorded: Recording, bad: dict[int, Outcome]) -> None:
    """Requests whose lines were readable: positions, and what became of each. Which of several
    results is missing and which was refused the counters do not say."""
    lines = coverage(recorded)
    unseen = "not_routed" if len(bad) == 1 else "invalid"
    if len(bad) > 1:
        lines = {number: [fold(line) for line in some] for number, some in lines.items()}
    for number in range(2 * len(bad) + 1):
        outcome = bad.get(number)
        if outcome and (not outcome.known or not outcome.rows):
            continue  # what was cached is unknown there
        seen = not outcome or outcome.routes
        instead = unseen if outcome and outcome.unseen else "invalid"
        assert lines[number] == covered(number, "seen" if seen else instead), number


def check_plausible(recorded: Recording) -> None:
    """Whatever it took the model for, what it recorded fits it."""
    fields = recorded.one("model").fields
    assert recorded.of("route")
    for route in recorded.of("route"):
        assert route.fields["k"] == fields["k"] and route.fields["layer"] < LAYERS
        assert route.columns["ids"].max() < fields["experts"]
        assert all(len(set(row)) == len(row) for row in route.columns["ids"].tolist())


def test_every_scenario_is_expected() -> None:
    assert scenarios() == list(OUTCOMES)


def test_nothing_absurd_among_good(tmp_path: Path) -> None:
    """One server, good and spoiled steps in turn: all good ones exact, each bad one counted."""
    names = scenarios()
    bad = spoiled(names)
    steps = 2 * len(names) + 1
    file = tmp_path / "r.moeprobe"
    recorded, done = record_whole(file, "each", steps=steps)
    assert done.code == 0, done.err
    assert STOPS[recorded.one("end").fields["stop"]] == "target_exit"
    assert hits(recorded) == steps * HITS
    check_each(recorded, bad)
    check_sums(recorded)
    check_each_covered(recorded, bad)
    assert moeprobe("report", file).code == 0
    dump = moeprobe("dump", file, "--json")
    assert dump.code == 0
    assert len([json.loads(line) for line in dump.out.splitlines()]) >= len(recorded.records)


@pytest.mark.full
@pytest.mark.parametrize("name", OUTCOMES)
def test_each_scenario_among_good(name: str, tmp_path: Path) -> None:
    """As above, but what is counted is one scenario's."""
    bad = spoiled([name])
    recorded, done = record_whole(tmp_path / "r.moeprobe", "each", name, steps=3)
    assert done.code == 0, done.err
    check_each(recorded, bad)
    check_sums(recorded)
    check_each_covered(recorded, bad)


@pytest.mark.parametrize("name", ALONE)
def test_nothing_absurd_alone(name: str, tmp_path: Path) -> None:
    """A server that was never seen to be right: refused by name, or all of it is counted."""
    outcome = OUTCOMES[name]
    recorded, done = record_whole(tmp_path / "r.moeprobe", name, STEPS, steps=STEPS)
    stop = STOPS[recorded.one("end").fields["stop"]]
    check_sums(recorded)
    if outcome.doubted:
        assert done.code == 5 and stop == "failed"
        assert "layout check failed" in done.err and "  try: " in done.err
        assert not recorded.of("route") and not recorded.of("counts")
        assert invalid(recorded)[outcome.cause] >= 8
        return
    assert done.code == 0, done.err
    assert stop == "target_exit"
    assert hits(recorded) == STEPS * HITS
    if outcome.plausible:
        check_plausible(recorded)
        return
    decisions = recorded.one("end").fields["decisions"]
    assert decisions == (STEPS * DECISIONS if outcome.routes else 0)
    if not outcome.routes or not outcome.known:
        refused = {"row": STEPS * outcome.refused} if outcome.refused else {}
        counted = {outcome.cause: STEPS * outcome.count} if outcome.count else {}
        assert invalid(recorded) == counted | refused
    assert not recorded.lost


# --- nothing is wrong -------------------------------------------------------------------------

def check_requests(recorded: Recording, steps: int) -> None:
    begun = recorded.of("request_begin")
    assert [one.fields["task"] for one in begun] == [FIRST_TASK + n for n in range(steps)]
    for number, one in enumerate(begun):
        assert one.columns["client_id"] == f"chatcmpl-{FIRST_TASK + number}"
        assert one.columns["tokens"].tolist() == [97 + place % ROWS
                                                  for place in range((number + 1) * ROWS)]
        assert one.fields["slot"] == 0 and one.fields["cached"] == number * ROWS


def check_whole(recorded: Recording, steps: int) -> None:
    assert routed(recorded) == {number: list(range(LAYERS)) for number in range(steps)}
    assert not recorded.of("invalid") and not recorded.lost
    check_sums(recorded)


@pytest.mark.parametrize(("scenario", "stop"), [("good", "target_exit"), ("exec", "target_exec")])
def test_all_that_there_is(scenario: str, stop: str, tmp_path: Path) -> None:
    """Steps x layers routes, their ids and weights in gate order; also where the target becomes
    another program, which ends the capture by itself."""
    begin = time.monotonic()
    recorded, done = record_whole(tmp_path / "r.moeprobe", scenario, STEPS, steps=STEPS)
    assert done.code == 0, done.err
    assert time.monotonic() - begin < 10
    assert STOPS[recorded.one("end").fields["stop"]] == stop
    check_whole(recorded, STEPS)
    check_requests(recorded, STEPS)
    assert hits(recorded) == STEPS * HITS
    assert coverage(recorded) == {number: covered(number) for number in range(STEPS)}
    model = recorded.one("model")
    assert (model.fields["experts"], model.fields["k"]) == (EXPERTS, 4)
    assert model.columns["layer_ids"].tolist() == list(range(LAYERS))


def test_server_without_log(tmp_path: Path) -> None:
    """No line says where requests begin: they are inferred, nothing is called lost."""
    recorded, done = record_whole(tmp_path / "r.moeprobe", "silent", STEPS, steps=STEPS)
    assert done.code == 0, done.err
    check_whole(recorded, STEPS)
    begun = recorded.of("request_begin")
    assert len(begun) == STEPS
    assert {one.fields["task"] for one in begun} == {UNKNOWN}
    assert hits(recorded) == STEPS * (HITS - 2)


# --- layouts ----------------------------------------------------------------------------------

def test_unknown_layout_is_refused(tmp_path: Path) -> None:
    """By name, before anything is probed; the target never notices."""
    with target("good", STEPS, program=FAKE.with_name("fake_llama_layout")) as one:
        done = moeprobe("record", one.pid, "-o", tmp_path / "r.moeprobe", "-d", "5")
        assert done.code == 5, done
        assert "layout check failed" in done.err and "llama_ubatch.pos at 72" in done.err
        assert "  try: " in done.err
        one.go_on()
        one.check_ran(STEPS)
        one.go_on()
        one.check_ended()


def test_older_layout_is_derived(tmp_path: Path) -> None:
    program = compiled(tmp_path, "POS_OFFSET=40")
    recorded, done = record_whole(tmp_path / "r.moeprobe", "good", STEPS, steps=STEPS,
                                  program=program)
    assert done.code == 0, done.err
    check_whole(recorded, STEPS)
    check_requests(recorded, STEPS)


def test_layout_that_only_seems_known(tmp_path: Path) -> None:
    """Positions where they should be, what follows them not: no number, all counted."""
    program = compiled(tmp_path, "MOVED")
    recorded, done = record_whole(tmp_path / "r.moeprobe", "good", STEPS, steps=STEPS,
                                  program=program)
    assert done.code in (0, 5), done.err
    assert not recorded.of("step") and not recorded.of("route")
    assert sum(invalid(recorded).values()) >= (STEPS if done.code == 0 else 8)
    check_sums(recorded)


# --- the end at any moment --------------------------------------------------------------------

def test_killed_during_capture(tmp_path: Path) -> None:
    """What came before it is whole and exact; what was open says that the target is gone."""
    file = tmp_path / "r.moeprobe"
    with target("good", 100000, 1000) as one, recording(one.pid, file) as capture:
        await_placed(capture)
        one.go_on()
        wait_until(lambda: file.stat().st_size > 4000, "no data")
        os.kill(one.pid, signal.SIGKILL)
        done = capture.wait(10)
    recorded = read(file)
    assert done.code == 0, done.err
    assert STOPS[recorded.one("end").fields["stop"]] == "target_exit"
    check_sums(recorded)
    layers = routed(recorded)
    assert list(layers) == list(range(len(layers))) and len(layers) > 20
    assert all(layers[number] == [0, 1, 2] for number in range(len(layers) - 1))
    endings = [one.fields["ending"] for one in recorded.of("request_end")]
    assert set(endings[:-1]) == {1} and endings[-1] in (1, ENDING_TARGET_GONE)


def test_ends_after_its_time(tmp_path: Path) -> None:
    file = tmp_path / "r.moeprobe"
    with target("good", 600, 2000) as one, recording(one.pid, file, "-d", "1") as capture:
        await_placed(capture)
        one.go_on()
        done = capture.wait(10)
        one.check_ran(600)
        one.go_on()
        one.check_ended()
    recorded = read(file)
    assert done.code == 0, done.err
    assert STOPS[recorded.one("end").fields["stop"]] == "duration"
    check_sums(recorded)
    layers = routed(recorded)
    assert list(layers) == list(range(len(layers))) and len(layers) > 20
    assert not recorded.lost and not recorded.of("invalid")


@pytest.mark.parametrize("wait_s", [0.0, 0.02, 0.05, 0.08, 0.12, 0.16, 0.22, 0.3])
def test_gone_at_attach(wait_s: float, tmp_path: Path) -> None:
    """Killed while we look, plan, load, link or begin: named, or a short whole recording."""
    file = tmp_path / "r.moeprobe"
    with target("good", 100000, 100) as one, recording(one.pid, file) as capture:
        one.go_on()
        time.sleep(wait_s)
        one.close()
        done = capture.wait(10)
        assert done.code in (0, 4), done.err
        if done.code:
            assert str(one.pid) in done.err
            errors = [line for line in done.error_lines() if line.startswith("moeprobe: ")]
            assert len(errors) == 1, done.err
            return
    recorded = read(file)
    assert STOPS[recorded.one("end").fields["stop"]] == "target_exit"
    check_sums(recorded)
    routed(recorded)
