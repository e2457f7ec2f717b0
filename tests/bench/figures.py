# SPDX-License-Identifier: BSD-2-Clause
"""What the benchmark prints, and which promises it found broken."""
from __future__ import annotations

import time

from bench import blocks
from bench.load import Load
from lib.moeprobe import wait_until

broken: list[str] = []


def say(name: str, text: str) -> None:
    print(f"{name:<34}{text}", flush=True)


def promise(name: str, text: str, kept: bool) -> None:
    """A figure with a bound that it must keep."""
    say(name, f"{text}: {'ok' if kept else 'BROKEN'}")
    if not kept:
        broken.append(name)


def overhead(name: str, load: Load, observer: blocks.Observer, pairs: int,
             seconds: float) -> blocks.Interval:
    """Prints what @observer costs; gives back the extra time of the computing thread a token, us."""
    wait_until(lambda: len(load.times) > 20, "the server does not generate", 60)
    begin = time.monotonic()
    measured = blocks.alternate(load, observer, pairs, seconds)
    token = 1e3 * sum(detached.wall for detached, _ in measured) / len(measured)
    wall, cpu, extra = blocks.wall(measured), blocks.cpu(measured), blocks.extra_us(measured)
    say(name, f"wall {wall.percent()} ({wall.claim()}), processor {cpu.percent()} "
        f"({cpu.claim()}), {extra.middle:+.1f} us [{extra.low:+.1f}, {extra.high:+.1f}] a token "
        f"of {token:.2f} ms; {2 * len(measured)} blocks of {seconds:g} s, "
        f"{time.monotonic() - begin:.0f} s")
    return extra
