# SPDX-License-Identifier: BSD-2-Clause
"""What `--header` costs: the time that it adds to every system call of the machine, in a process that
has nothing to do with the server."""
from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.figures import say
from lib.moeprobe import BUILD, recording, wait_until
from lib.torch_env import missing
from lib.torch_server import PlainServer, plain_torch

CALLS, BLOCKS = 1000, 3000  # of a block, less than a millisecond; blocks, of which the fastest counts
CHOSEN = ("--header", "x-request-id")


@contextmanager
def call_loop() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([str(BUILD / "tests" / "tools" / "call_loop")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin
        process.stdin.close()


def call_ns(loop: subprocess.Popen[str]) -> float:
    assert loop.stdin and loop.stdout
    loop.stdin.write(f"{BLOCKS} {CALLS}\n")
    loop.stdin.flush()
    return float(loop.stdout.readline())


def attached_ns(loop: subprocess.Popen[str], server: PlainServer, file: Path,
                options: tuple[str, ...]) -> float:
    with recording(server.pid, file, *options) as record:
        wait_until(record.attached, "not attached",
                   poke=lambda: server.ask("/generate", {"tokens": [1, 2, 3], "generate": 2}))
        measured = call_ns(loop)
        record.stop()
    return measured


def interval(extra: list[float]) -> str:
    """The median, and where the middle half of them lies."""
    low, middle, high = np.percentile(extra, (25, 50, 75))
    return f"{middle:+.0f} ns [{low:+.0f}, {high:+.0f}]"


def part(directory: Path, quick: bool) -> None:
    if missing():
        say("--header", f"not measured: {missing()}")
        return
    alone, without, chosen = [], [], []
    with plain_torch(directory / "headers.log") as server, call_loop() as loop:
        for _ in range(5 if quick else 15):
            alone.append(call_ns(loop))
            without.append(attached_ns(loop, server, directory / "without.moeprobe", ()))
            chosen.append(attached_ns(loop, server, directory / "chosen.moeprobe", CHOSEN))
    say("--header: each system call", f"{interval([b - a for a, b in zip(alone, chosen)])} on top "
        f"of {np.median(alone):.0f} ns; attached without it "
        f"{interval([b - a for a, b in zip(alone, without)])}")
