# SPDX-License-Identifier: BSD-2-Clause
"""The same promises for a server on PyTorch: what a router call costs, how soon the first record
comes, nothing lost, little memory."""
from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench import blocks, latency
from bench.figures import overhead, promise, say
from bench.load import GenerateLoad
from bench.observers import collects, moeprobe_observer
from lib.moeprobe import recording, wait_until
from lib.recording import read
from lib.sites import Site, sites_of
from lib.torch_env import PYTHON, environment, missing
from lib.torch_models import EXACT, torch_model
from lib.torch_server import TorchServer, generating

MODEL = EXACT["olmoe"]
ROUTER = "_ZN2at6native23structured_topk_out_cpu4implERKNS_6TensorEllbbS4_S4_"
CALL_US = 3.0
FIRST_SECONDS = 0.7
MEBIBYTE = 2 ** 20
UNKNOWN_NS = 2 ** 64 - 1
# Of a step's hits, what is not a router's: embedding, positions, and of what a request sends.
OTHERS = 3


class TopkCalls:
    """topk_calls.py: a program whose router calls can be timed one by one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.pid = process, process.pid

    def call_us(self, steps: int) -> float:
        """The median call."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()) / 1e3


@contextmanager
def topk_calls() -> Iterator[TopkCalls]:
    process = subprocess.Popen([str(PYTHON), str(Path(__file__).parent / "topk_calls.py")],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env=environment())
    with process:
        assert process.stdin and process.stdout
        process.stdout.readline()
        yield TopkCalls(process)
        process.stdin.close()


def call_time(directory: Path, pairs: int, steps: int) -> None:
    """What a router call takes longer with us, by the program's own clock, against what doctor says."""
    begin = time.monotonic()
    detached, attached, predicted = [], [], []
    with topk_calls() as calls:
        for _ in range(pairs):
            detached.append(calls.call_us(steps))
            with recording(calls.pid, directory / "calls.moeprobe") as capture:
                wait_until(capture.attached, "not attached", poke=lambda: calls.call_us(2))
                wait_until(lambda: collects(capture), "a hit is still measured", 60)
                attached.append(calls.call_us(steps))
                capture.stop()
            with suppress(RuntimeError):  # drowned in what else the machine does: doctor says so
                predicted.append(router_site(calls.pid).predicted_ns / 1e3)
    extra = blocks.interval([one - other for one, other in zip(attached, detached, strict=True)])
    if len(predicted) < pairs:
        promise("pytorch: predictions", f"{len(predicted)} of {pairs} (at least half)",
                len(predicted) >= pairs / 2)
    if not predicted:
        return
    said = blocks.interval(predicted)
    factor = extra.middle / said.middle
    text = f"{extra.middle:.2f} us [{extra.low:.2f}, {extra.high:.2f}]"
    promise("pytorch: time of a router call", f"{text} more, of {min(detached):.2f} us (at most "
            f"{CALL_US:g} us)", extra.middle <= CALL_US)
    promise("pytorch: against predicted", f"measured {text}, predicted {said.middle:.2f} us "
            f"[{min(predicted):.2f} to {max(predicted):.2f}]: factor {factor:.2f} (0.5 to 2); "
            f"{2 * pairs} blocks, {time.monotonic() - begin:.0f} s", 0.5 <= factor <= 2)


def router_site(pid: int) -> Site:
    return next(site for site in sites_of(pid) if site.symbol == ROUTER)


def hits(server: TorchServer, directory: Path) -> None:
    """Hits a step, and their share of the time, as the stream tells them."""
    file = directory / "hits.moeprobe"
    with recording(server.pid, file) as capture:
        wait_until(capture.attached, "not attached")
        time.sleep(4)
        capture.stop()
    recorded = read(file)
    costs = [cost.fields for cost in recorded.of("cost")]
    total, steps = sum(cost["hits"] for cost in costs), recorded.one("end").fields["steps"]
    known = [cost for cost in costs if cost["hit_ns"] != UNKNOWN_NS]
    share = sum(cost["hit_ns"] for cost in known) / sum(cost["interval_ns"] for cost in known)
    bound = MODEL.layers + OTHERS
    promise("pytorch: hits a step", f"{total / steps:.2f} of at most {bound} ({total} hits, {steps} "
            f"steps), predicted to take {100 * share:.2f} % of a thread's time",
            total / steps <= bound)


def part(directory: Path, quick: bool) -> None:
    if reason := missing():
        say("pytorch: skipped", reason)
        return
    pairs, seconds, rounds = (4, 0.5, 3) if quick else (16, 1.0, 12)
    call_time(directory, pairs, 60 if quick else 150)
    # One thread: with two, who is woken sooner where we keep the machine awake gains more than our
    # hits take.
    with generating(torch_model(MODEL), directory / "pytorch.log", "--threads", "1",
                    "--no-truth") as server, GenerateLoad(server) as load:
        wait_until(lambda: len(load.times) > 100, "the server does not generate", 60)
        first = [latency.first_route(server.pid) for _ in range(rounds)]
        promise("pytorch: first record", latency.spread(first, FIRST_SECONDS),
                max(first) < FIRST_SECONDS)
        hits(server, directory)
        result = latency.full_speed(server.pid, directory, 4 if quick else 10)
        promise("pytorch: loss at full speed", f"{result.lost} at "
                f"{result.decisions / result.seconds:.0f} decisions/s", not result.lost)
        promise("pytorch: collector resident", f"at most {result.resident / MEBIBYTE:.1f} MiB, "
                "reader and broker together (bound 64)", result.resident <= 64 * MEBIBYTE)
        overhead("pytorch: moeprobe", load, lambda: moeprobe_observer(server, directory), pairs,
                 seconds)
