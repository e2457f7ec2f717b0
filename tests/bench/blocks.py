# SPDX-License-Identifier: BSD-2-Clause
"""Overhead by alternating attached and detached blocks inside one server process: whatever
drifts, drifts through both."""
from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.load import Load

Observer = Callable[[], AbstractContextManager[object]]
Values = list[float]
CLAIMS = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # percent


@dataclass(frozen=True)
class Block:
    """Seconds a token, by the clock, by all of the server's threads, and by the one that computes."""

    wall: float
    cpu: float
    computing: float


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval."""

    middle: float
    low: float
    high: float

    def percent(self) -> str:
        return f"{self.middle:+.2f} % [{self.low:+.2f}, {self.high:+.2f}]"

    def claim(self) -> str:
        """The smallest bound that the whole interval is under."""
        bound = next((one for one in CLAIMS if self.high < one), None)
        return f"under {bound:g} %" if bound else "no bound"


def measure(load: Load, seconds: float) -> Block:
    """A block of whole requests, of about @seconds."""
    begin = load.mark()
    time.sleep(seconds)
    end = load.mark()
    tokens = end.tokens - begin.tokens
    if tokens < 5:
        raise RuntimeError("the server hardly generates")
    ran = [(end.cpu[thread] - begin.cpu.get(thread, 0)) / 1e9 / tokens for thread in end.cpu]
    return Block((end.time - begin.time) / tokens, sum(ran), max(ran))


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


def middle(values: Any) -> Any:
    """The mean of the middle three fifths of each row: what else happens on the machine strikes a few
    pairs hard, on either side."""
    ordered = np.sort(values, axis=-1)
    cut = ordered.shape[-1] // 5
    return ordered[..., cut:ordered.shape[-1] - cut].mean(axis=-1)


def interval(values: Values, rounds: int = 10000) -> Interval:
    """The trimmed mean, with its bootstrap over @values."""
    of = np.asarray(values)
    drawn = np.random.default_rng(1).choice(of, (rounds, len(of)))
    low, high = np.percentile(middle(drawn), (2.5, 97.5))
    return Interval(float(middle(of)), float(low), float(high))


def ratio(values: Values) -> Interval:
    """The trimmed geometric mean of ratios, in percent above 1."""
    of = interval([float(np.log(value)) for value in values])
    middle, low, high = (100 * (float(np.exp(value)) - 1) for value in
                         (of.middle, of.low, of.high))
    return Interval(middle, low, high)


def wall(pairs: list[tuple[Block, Block]]) -> Interval:
    return ratio([attached.wall / detached.wall for detached, attached in pairs])


def cpu(pairs: list[tuple[Block, Block]]) -> Interval:
    return ratio([attached.cpu / detached.cpu for detached, attached in pairs])


def extra_us(pairs: list[tuple[Block, Block]]) -> Interval:
    """Microseconds that the thread that computes runs longer for a token."""
    return interval([1e6 * (attached.computing - detached.computing)
                     for detached, attached in pairs])
