# SPDX-License-Identifier: BSD-2-Clause
"""Captures of real servers under load, as the exactness tests make them."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.client import TEXT, Answer, Ask, Crowd, mixed_asks, perform
from lib.judge import Verdict
from lib.moeprobe import Capture, Finished, recording, wait_until
from lib.recording import STOPS, Picture, Recording, read
from lib.server import Server

HEADER = 32  # bytes that a stream begins with

def poke(server: Server, number: int) -> Answer:
    """A small request, so that data flows."""
    return perform(server, Ask(TEXT, f"poke {number}", 2, seed=90000 + number))


def await_attached(server: Any, *captures: Capture,
                   poke: Callable[[Any, int], Answer] | None = poke) -> list[Answer]:
    """Small requests until every capture says that data flows; the requests' answers. Without
    @poke: others see to it that the server computes."""
    early: list[Answer] = []

    def ready() -> bool:
        for one in captures:
            if one.process.poll() is not None:
                raise RuntimeError(f"moeprobe ended with {one.process.returncode}: {one.said}")
        return all(one.attached() for one in captures)

    wait_until(ready, "moeprobe did not say that it is attached",
               poke=(lambda: early.append(poke(server, len(early)))) if poke else None)
    if poke:
        server.wait_idle()
    return early


def capture(server: Server, file: Path, seed: int,
            clients: int = 8) -> tuple[Picture, list[Answer], list[Answer]]:
    """Record while a crowd asks: the picture, its answers, and those made while attaching."""
    return capture_work(server, file,
                        lambda: Crowd(server, mixed_asks(seed), clients).start().wait())


def capture_work(server: Any, file: Path, work: Callable[[], list[Answer]],
                 poke: Callable[[Any, int], Answer] = poke,
                 ) -> tuple[Picture, list[Answer], list[Answer]]:
    """Record while @work is done: the picture, its answers, and those made while attaching."""
    with recording(server.pid, file) as record:
        early = await_attached(server, record, poke=poke)
        answers = work()
        server.wait_idle()
        done = record.stop()
    return finished(done, file), answers, early


def is_placed(capture: Capture) -> bool:
    """The first PROCESS comes once all probes are in place."""
    if capture.process.poll() is not None:
        raise RuntimeError(f"moeprobe ended with {capture.process.returncode}: {capture.said}")
    return (capture.file.exists() and capture.file.stat().st_size >= HEADER
            and bool(read(capture.file).of("process")))


def capture_idle(server: Any, file: Path, work: Callable[[], list[Answer]],
                 ) -> tuple[Picture, list[Answer]]:
    """Attach while nothing is computed, then record while @work is done: the picture, which has all
    of it from the first row on, and the answers."""
    server.wait_idle()
    with recording(server.pid, file) as record:
        wait_until(lambda: is_placed(record), "no probes")
        answers = work()
        server.wait_idle()
        done = record.stop()
    return finished(done, file), answers


def finished(done: Finished, file: Path) -> Picture:
    """The picture of a recording that ended as asked."""
    assert done.code == 0, done.err
    result = read(file)
    assert result.complete
    assert STOPS[result.one("end").fields["stop"]] == "asked"
    return Picture(result)


def largest_step(picture: Picture) -> int:
    return max(int(step.fields["rows"]) for step in picture.recording.of("step"))


def check_totals(picture: Picture) -> None:
    """END's totals are those of the records."""
    recorded, end = picture.recording, picture.recording.one("end").fields
    assert end["steps"] == len(recorded.of("step"))
    assert end["routes"] == len(recorded.of("route"))
    assert end["rows"] == sum(step.fields["rows"] for step in recorded.of("step"))
    assert end["decisions"] == sum(route.fields["rows"] for route in recorded.of("route"))
    assert end["records"] == len(recorded.records) - 1
    assert end["lost"] == 0


def part(whole: Recording, context: int) -> Recording:
    """What belongs to one context, and what belongs to none."""
    mine = {record.fields["request"] for record in whole.of("request_begin")
            if record.fields["context"] == context}
    kept = [record for record in whole.records
            if record.fields.get("context", context) == context
            and (record.type not in ("bind", "request_end", "coverage")
                 or record.fields["request"] in mine | {0})]
    return Recording(kept, whole.complete)


def report(verdict: Verdict, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print("\n  " + verdict.line(name))
    assert not verdict.faults, "\n".join(verdict.faults[:20])


