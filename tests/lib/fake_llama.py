# SPDX-License-Identifier: BSD-2-Clause
"""Runs tests/tools/fake_llama.cc under a capture, and knows what a good step of it is."""
from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lib.moeprobe import (
    BUILD,
    ROOT,
    Capture,
    Finished,
    children_of,
    kernel_objects,
    recording,
    wait_until,
)
from lib.recording import MISSING, OUTPUT, PREFILL, Record, Recording, read

FAKE = BUILD / "tests" / "tools" / "fake_llama"
SOURCE = ROOT / "tests" / "tools" / "fake_llama.cc"
FLAGS = ("-O2", "-fno-omit-frame-pointer", "-fno-shrink-wrap", "-rdynamic")
K, EXPERTS, LAYERS, ROWS, THREADS, FIRST_TASK = 4, 16, 3, 5, 2, 41
LINKS = 4  # router, rows, slots, clients
DECISIONS = ROWS * (LAYERS - 1) + 1  # of a step: in the last layer only rows with output
HITS = LAYERS * THREADS + 4  # of a step: layers x threads, rows, two lines, a queued task
MUL = LAYERS * THREADS
INVALIDS = ("unknown", "fault", "shape", "expert_range", "expert_repeated", "weight", "row",
            "row_count", "identity", "warm_up", "unreadable")


def scenarios() -> list[str]:
    """Those that spoil something, in the order in which `each` runs them."""
    said = subprocess.run([str(FAKE)], capture_output=True, text=True, check=False).stderr
    names = [line.strip() for line in said.splitlines()[1:]]
    return names[names.index("silent") + 1:]


def compiled(directory: Path, *defines: str) -> Path:
    """Another build of the program, with another layout of its structs."""
    program = directory / "fake_llama_other"
    subprocess.run(["c++", *FLAGS, *(f"-D{one}" for one in defines), "-o", str(program),
                    str(SOURCE)], check=True)
    return program


class Target:
    """A fake server that waits to be told to run."""

    def __init__(self, *arguments: str | int, program: Path = FAKE) -> None:
        self.process = subprocess.Popen([str(program), *map(str, arguments)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._read()[0] == "ready"

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def check_ran(self, steps: int) -> None:
        """It did all that it does without us."""
        assert self._read() == ["done", str(steps * MUL), str(steps)]

    def check_ended(self) -> None:
        assert self.process.wait(10) == 0

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def target(*arguments: str | int, program: Path = FAKE) -> Iterator[Target]:
    one = Target(*arguments, program=program)
    try:
        yield one
    finally:
        one.close()


def placed(capture: Capture) -> bool:
    """All probes are there: before, an idle target gives no other sign of it."""
    if capture.process.poll() is not None:
        raise RuntimeError(f"moeprobe ended with {capture.process.returncode}: {capture.said}")
    held = kernel_objects(children_of(capture.process.pid))
    return sum(kind == "link" for kind, _ in held) == LINKS


def await_placed(capture: Capture) -> None:
    wait_until(lambda: placed(capture), "no probes were placed")
    time.sleep(0.05)  # until the reader has been told of the last one


def record_whole(file: Path, *arguments: str | int, steps: int,
                 program: Path = FAKE) -> tuple[Recording, Finished]:
    """The recording of all that the target does, which must do all that it does without us."""
    with target(*arguments, program=program) as one, \
            recording(one.pid, file, "-d", "60") as capture:
        await_placed(capture)
        one.go_on()
        if "exec" not in arguments:
            one.check_ran(steps)
            one.go_on()
        done = capture.wait(20)
        one.check_ended()
    return read(file), done


# --- what a recording of it may say -----------------------------------------------------------

def chosen(number: int, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and weights in gate order, as fill_router() makes them."""
    rows = 1 if layer == LAYERS - 1 else ROWS
    ids = [[(e * 5 + row + layer + number) % EXPERTS for e in range(K)] for row in range(rows)]
    weight = [np.float32(0.4) - np.float32(0.1) * np.float32(j) for j in range(K)]
    return np.array(ids), np.tile(np.array(weight, "f4"), (rows, 1))


def number_of(step: Record) -> int:
    return int(step.columns["position"][0]) // ROWS


def check_step(step: Record) -> None:
    number = number_of(step)
    assert step.fields["rows"] == ROWS
    assert step.columns["position"].tolist() == list(range(number * ROWS, number * ROWS + ROWS))
    assert step.columns["token"].tolist() == list(range(97, 97 + ROWS))
    assert [flags & OUTPUT for flags in step.columns["row_flags"].tolist()] == [
        0] * (ROWS - 1) + [OUTPUT]
    assert step.columns["phase"].tolist() == [PREFILL] * ROWS


def check_route(route: Record, number: int) -> None:
    ids, weights = chosen(number, route.fields["layer"])
    assert route.columns["ids"].tolist() == ids.tolist()
    assert np.array_equal(route.columns["weights"], weights)
    assert route.columns["row"].tolist() == (list(range(ROWS)) if len(ids) == ROWS
                                             else [ROWS - 1])


def routed(recorded: Recording) -> dict[int, list[int]]:
    """Number of each step -> the layers that it has. Everything must be as it was there."""
    number: dict[int, int] = {}
    layers: dict[int, list[int]] = {}
    for record in recorded.of("step", "route"):
        if record.type == "step":
            check_step(record)
            number[record.fields["step"]] = number_of(record)
            assert number_of(record) not in layers, "a step twice"
            layers[number_of(record)] = []
        else:
            own = number[record.fields["step"]]
            check_route(record, own)
            assert record.fields["layer"] not in layers[own], "a layer twice"
            layers[own].append(record.fields["layer"])
    return layers


def invalid(recorded: Recording) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for record in recorded.of("invalid"):
        counted[INVALIDS[record.fields["cause"]]] += record.fields["count"]
    return dict(counted)


def hits(recorded: Recording) -> int:
    return sum(int(record.fields["hits"]) for record in recorded.of("cost"))


def coverage(recorded: Recording) -> dict[int, list[dict[str, int]]]:
    """Number of each step whose request was launched before our eyes -> coverage a layer."""
    number = {record.fields["request"]: record.fields["task"] - FIRST_TASK
              for record in recorded.of("request_begin")}
    lines: dict[int, list[dict[str, int]]] = {}
    for record in recorded.of("coverage"):
        names = ("expected", "seen", *MISSING)
        line = {name: record.fields[name] for name in names if record.fields[name]}
        lines.setdefault(number.get(record.fields["request"], -1), []).append(line)
    return lines


def covered(number: int, instead_of_seen: str = "seen") -> list[dict[str, int]]:
    """What coverage of one step's request must say."""
    lines = []
    for layer in range(LAYERS):
        last = layer == LAYERS - 1
        line = {"expected": (number + 1) * ROWS, "cached": number * ROWS,
                instead_of_seen: 1 if last else ROWS, "not_computed": ROWS - 1 if last else 0}
        lines.append({name: value for name, value in line.items() if value})
    return lines


def check_sums(recorded: Recording) -> None:
    """What holds of every recording, whatever the target did."""
    end = recorded.one("end").fields
    assert recorded.complete
    assert end["invalid"] == sum(invalid(recorded).values())
    assert end["lost"] == recorded.lost
    assert end["steps"] == len(recorded.of("step"))
    assert end["routes"] == len(recorded.of("route"))
    assert end["decisions"] == sum(route.fields["rows"] for route in recorded.of("route"))
    for record in recorded.of("coverage"):
        fields = record.fields
        assert fields["expected"] == fields["seen"] + sum(fields[name] for name in MISSING)
        assert recorded.lost or not fields["lost"], "lost, but no loss is said"
