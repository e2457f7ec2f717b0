# SPDX-License-Identifier: BSD-2-Clause
"""Overhead by alternating attached and detached blocks inside one server process: whatever
drifts, drifts through both."""
from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from bench.load import Load, thread_times

Observer = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Block:
    """Seconds a token, by the clock and by the server's threads."""

    wall: float
    cpu: float
    tokens: int


@dataclass(frozen=True)
class Interval:
    """A ratio's estimate and its 95 % interval, in percent above 1."""

    middle: float
    low: float
    high: float

    def text(self) -> str:
        return f"{self.middle:+.2f} % [{self.low:+.2f}, {self.high:+.2f}]"

    def claim(self, bound: float) -> str:
        if self.high < bound:
            return f"under {bound:g} %"
        return f"not shown to be under {bound:g} %"


def measure(load: Load, seconds: float) -> Block:
    """One block of about @seconds that begins and ends with a token."""
    count, cpu = len(load.times), thread_times(load.server.pid)
    begin = time.monotonic()
    time.sleep(seconds)
    end, tokens = time.monotonic(), len(load.times) - count
    cpu = thread_times(load.server.pid) - cpu
    if tokens < 5:
        raise RuntimeError("the server hardly generates")
    return Block((end - begin) / tokens, cpu / 1e9 / tokens, tokens)


def alternate(load: Load, observer: Observer, pairs: int, seconds: float,
              settle: float = 0.1) -> list[tuple[Block, Block]]:
    """@pairs of blocks (detached, attached), in random order within a pair."""
    source, result = random.Random(1), []
    for _ in range(pairs):
        blocks: dict[bool, Block] = {}
        for attached in source.sample((False, True), 2):
            if not attached:
                time.sleep(settle)
                blocks[False] = measure(load, seconds)
                continue
            with observer():
                time.sleep(settle)
                blocks[True] = measure(load, seconds)
        result.append((blocks[False], blocks[True]))
    return result


def interval(ratios: list[float], rounds: int = 10000) -> Interval:
    """Bootstrap over pairs of the geometric mean ratio."""
    logs = np.log(np.asarray(ratios))
    source = np.random.default_rng(1)
    means = source.choice(logs, (rounds, len(logs))).mean(axis=1)
    middle, low, high = (100 * (float(np.exp(value)) - 1) for value in
                         (logs.mean(), *np.percentile(means, (2.5, 97.5))))
    return Interval(middle, low, high)


def wall(pairs: list[tuple[Block, Block]]) -> Interval:
    return interval([attached.wall / detached.wall for detached, attached in pairs])


def cpu(pairs: list[tuple[Block, Block]]) -> Interval:
    return interval([attached.cpu / detached.cpu for detached, attached in pairs])


def extra_cpu_ns(pairs: list[tuple[Block, Block]]) -> float:
    """Median extra thread time a token."""
    return 1e9 * float(np.median([attached.cpu - detached.cpu for detached, attached in pairs]))
