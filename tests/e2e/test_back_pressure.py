# SPDX-License-Identifier: BSD-2-Clause
"""Readers of the stream that stand still: the server goes on, memory stays bounded, and once they
read again they get all that was kept, and by name and number what was not."""
from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from lib.client import NATIVE, TEXT, Answer, Ask, Crowd, perform, text_of
from lib.exact import await_attached
from lib.moeprobe import COLLECTOR, Capture, children_of, recording
from lib.recording import MISSING, Picture, Recording, Request, read
from lib.server import Server

pytestmark = pytest.mark.root

QUEUE = 8 << 20       # of steps; half as much more for requests
QUEUE_CAUSE, REQUESTS_CAUSE = 5, 7


def lost(recorded: Recording, cause: int, what: str) -> int:
    return sum(int(loss.fields[what]) for loss in recorded.of("loss")
               if loss.fields["cause"] == cause)


def resident(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


def ask_all(server: Server, asks: list[Ask], clients: int) -> list[Answer]:
    answers = Crowd(server, asks, clients).start().wait()
    assert all(answer.finished for answer in answers), [a.error for a in answers if a.error]
    return answers


def fill_queue(server: Server, reader: int) -> list[Answer]:
    """One token a step, until the reader's memory has grown by what it keeps, and then some."""
    before, answers = resident(reader), []
    end = time.monotonic() + 120
    while resident(reader) - before < QUEUE - (1 << 18):
        assert time.monotonic() < end, f"grew by {resident(reader) - before} bytes only"
        answers += ask_all(server, [Ask(NATIVE, f"fill {len(answers)}", 400,
                                        seed=1000 + len(answers))], 1)
    return answers + ask_all(server, [Ask(NATIVE, "more", 400, seed=999)], 1)


def flood_requests(server: Server) -> list[Answer]:
    """As many as fit into the room of requests, and some more: each takes about 900 bytes."""
    source = random.Random(3)
    return ask_all(server, [Ask(NATIVE, f"{n} {text_of(source, 4)}", 1,
                                seed=10000 + n, cache=False) for n in range(7000)], 4)


def check_sums(recorded: Recording) -> Picture:
    """END is right, nothing names what is not there, requests that begin end with coverage."""
    picture, end = Picture(recorded), recorded.one("end").fields
    layers = len(picture.layers)
    assert recorded.complete
    assert end["lost"] == recorded.lost
    assert end["steps"] == len(recorded.of("step"))
    assert end["routes"] == len(recorded.of("route"))
    assert end["rows"] == sum(step.fields["rows"] for step in recorded.of("step"))
    assert end["decisions"] == picture.decisions
    assert end["records"] == len(recorded.records) - 1
    for request in picture.requests.values():
        assert request.end is not None and request.end.fields["rows"] == request.rows
        assert len(request.coverage) == layers
    for record in recorded.of("coverage"):
        fields = record.fields
        assert fields["expected"] == fields["seen"] + sum(fields[name] for name in MISSING)
    return picture


def stand_still(server: Server, record: Capture) -> tuple[list[Answer], list[Answer]]:
    """Stop the consumer until all its shares of the queue are full; answers until it goes on, and
    of a request that was under way when it did."""
    reader = children_of(record.process.pid)[2]  # itself, the broker, the reader
    before = resident(reader)
    os.kill(record.process.pid, signal.SIGSTOP)
    try:
        answers = fill_queue(server, reader) + flood_requests(server)
        grown = resident(reader) - before
        under_way = Crowd(server, [Ask(TEXT, "late", 1900, seed=5000)], 1).start()
        time.sleep(0.4)
    finally:
        os.kill(record.process.pid, signal.SIGCONT)
    assert grown < 5 * QUEUE, f"{grown} bytes of memory more"
    return answers, under_way.wait()


@pytest.mark.full
def test_consumer_stands_still(olmoe_server: Server, tmp_path: Path,
                               capsys: pytest.CaptureFixture[str]) -> None:
    """SIGSTOP on the consumer until steps and requests are dropped, then it goes on."""
    file = tmp_path / "r.moeprobe"
    begin = time.monotonic()
    with recording(olmoe_server.pid, file) as record:
        early = await_attached(olmoe_server, record)
        answers, late = stand_still(olmoe_server, record)
        time.sleep(2)
        after = [perform(olmoe_server, Ask(TEXT, f"after {n}", 20, seed=6000 + n))
                 for n in range(3)]
        olmoe_server.wait_idle()
        done = record.stop()
    assert done.code == 0, done.err
    recorded = read(file)
    picture = check_sums(recorded)
    early_ids = {answer.client_id for answer in early}
    ours = {str(r.begin.columns["client_id"]): r for r in picture.requests.values()
            if not r.before_attach and r.begin.columns["client_id"] not in early_ids}
    others = [r for r in picture.requests.values() if r.before_attach
              or r.begin.columns["client_id"] in early_ids]
    wanted = sum(answer.rows for answer in answers + late + after)
    delivered = recorded.one("end").fields["rows"] - sum(r.rows for r in others)
    dropped = lost(recorded, REQUESTS_CAUSE, "count")
    with capsys.disabled():
        print(f"\n  {time.monotonic() - begin:.0f} s: of {wanted} rows {delivered} delivered, "
              f"{lost(recorded, QUEUE_CAUSE, 'rows')} lost; of {len(answers) + len(late + after)} "
              f"requests {dropped} dropped")
    assert dropped > 0, "there was room for all requests: nothing was tested"
    assert {loss.fields["cause"] for loss in recorded.of("loss")} == {QUEUE_CAUSE, REQUESTS_CAUSE}
    assert delivered + lost(recorded, QUEUE_CAUSE, "rows") == wanted
    assert len(picture.requests) - len(others) + dropped == len(answers + late + after)
    check_late(ours[str(late[0].client_id)], late[0])
    for answer in after:
        assert ours[str(answer.client_id)].rows == answer.rows
    assert "requests dropped" in done.err or "steps dropped" in done.err


def check_late(request: Request, answer: Answer) -> None:
    """It began while there was no room: what was computed since there is some is its own."""
    assert request.begin.fields["prompt"] == len(answer.prompt)
    assert len(request.begin.columns["tokens"]) == 0
    assert 0 < request.rows < answer.rows
    for line in request.coverage:
        assert line.fields["expected"] - line.fields["cached"] == answer.rows
        assert line.fields["lost"] == answer.rows - request.rows


def test_reader_comes_late(olmoe_server: Server, tmp_path: Path) -> None:
    """The capture is over and nobody read yet: it waits with what it has."""
    file = tmp_path / "r.moeprobe"
    process = subprocess.Popen([str(COLLECTOR), str(olmoe_server.pid), "-d", "4"],
                               stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        time.sleep(1)
        ask_all(olmoe_server, [Ask(TEXT, "much", 1000, seed=1)], 1)
        time.sleep(6)
        assert process.poll() is None
        threading.Timer(20, process.kill).start()
        file.write_bytes(process.stdout.read())
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    recorded = read(file)
    check_sums(recorded)
    assert file.stat().st_size > 1 << 18 and not recorded.lost
    assert recorded.one("end").fields["stop"] == 2
