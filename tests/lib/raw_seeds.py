# SPDX-License-Identifier: BSD-2-Clause
"""Seeds of the fuzzer of replays (tests/fuzz/corpus/fuzz_replay): short raw logs of real servers,
written with the other raw log (raw_vllm.py), since a build takes no log of another one."""
from __future__ import annotations

import os
import shutil
import signal
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from lib.client import Answer
from lib.exact import poke
from lib.models import EXACT, model
from lib.moeprobe import ROOT, wait_until
from lib.raw_log import capture_raw, replay
from lib.recording import read
from lib.server import SUPERVISOR, Server, below, running, wait_listening

SEEDS = ROOT / "tests/fuzz/corpus/fuzz_replay"
# How it begins: magic and sizes, its own first, that of what follows it last.
HEADER = struct.Struct("<8s6I")
ENTRY = struct.Struct("<II")
COUNTERS, TICK, STOP = 2, 3, 4
SPARSE = 16  # one in so many of those that come by the clock
JOIN_SECONDS = 30.0


def cut(log: bytes, limit: int) -> bytes:
    """About the first @limit bytes of @log, fewer of its counters and clock, and its end."""
    _, header, *_, saved = HEADER.unpack_from(log)
    place = header + saved
    made, clock = bytearray(log[:place]), 0
    while place < len(log):
        kind, size = ENTRY.unpack_from(log, place)
        entry = log[place:place + ENTRY.size + size]
        place += len(entry)
        clock += kind in (COUNTERS, TICK)
        if kind == STOP or (len(made) + len(entry) <= limit
                            and (kind not in (COUNTERS, TICK) or clock % SPARSE < 2)):
            made += entry
    return bytes(made)


def keep(raw: Path, name: str, limit: int) -> None:
    """Make a seed of @raw, which must be one."""
    seed = SEEDS / name
    seed.write_bytes(cut(raw.read_bytes(), limit))
    replay(seed, raw.with_suffix(".seed"))


def start_again(server: Server, live: Path) -> list[Answer]:
    """The server ends, and another one takes its place."""
    os.kill(below(server), signal.SIGTERM)
    again = Server(server.process, server.model, server.log)
    wait_listening(again, 1)
    wait_until(lambda: len(read(live).of("process")) == 2, "the second server did not join",
               seconds=JOIN_SECONDS)
    server.host, server.port = again.host, again.port
    return [poke(again, 7)]


def make(folder: Path) -> None:
    """Those of llama.cpp, which need servers of their own."""
    path = folder / "tiny.gguf"  # its name is in the log
    shutil.copyfile(model(EXACT["olmoe"]), path)
    works: dict[str, tuple[AbstractContextManager[Server],
                           Callable[[Server, Path], list[Answer]]]] = {
        "one_request": (running(path, folder / "one.log"), lambda server, _: [poke(server, 7)]),
        "started_again": (running(path, folder / "again.log", before=SUPERVISOR), start_again)}
    for name, (serving, work) in works.items():
        raw, live = folder / f"{name}.raw", folder / name
        with serving as server:
            capture_raw(server, raw, live,
                        lambda: work(server, live), poke)  # pylint: disable=cell-var-from-loop
        keep(raw, name, 48 << 10)
