# SPDX-License-Identifier: BSD-2-Clause
"""A service is the named process and what descends from it: a server below a wrapper is found,
its end is not that of the capture, and what does not belong to it is left alone."""
from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lib.abilities import LLAMA
from lib.client import Crowd, mixed_asks
from lib.exact import await_attached, capture, check_totals, part, poke, report
from lib.judge import judge
from lib.models import EXACT, model
from lib.moeprobe import children_of, moeprobe, recording, running_pids, wait_until
from lib.oracle import Oracle
from lib.raw_log import capture_raw, differences, replay
from lib.recording import STOPS, UNKNOWN, Picture, read
from lib.server import SUPERVISOR, Options, Server, below, running, wait_listening
from lib.shown import Shows

pytestmark = pytest.mark.root

# A shell that runs what follows as its child, passes an end on, and goes on when it has ended.
SHELL = """trap 'kill $child; wait $child; exit 0' TERM
"$@" & child=$!
wait $child
while :; do sleep 0.2; done"""
WRAPPER = ("sh", "-c", SHELL, "wrapper")
# New processes are listed every second, and asked again after 0.1, 0.2, 0.5, 1, 2 and 5 seconds
# while they map their libraries.
FOLLOW_SECONDS = 6.0


def test_server_below_a_wrapper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The wrapper is named; every decision of its child is there, and the child is the process."""
    path = model(EXACT["olmoe"])
    with running(path, tmp_path / "server.log", before=WRAPPER) as server:
        child = below(server)
        assert child != server.pid
        picture, answers, early = capture(server, tmp_path / "r.moeprobe", seed=3)
        doctor = moeprobe("doctor", server.pid)
    verdict = judge(picture, answers, Oracle(path), optional=early)
    check_totals(picture)
    report(verdict, "olmoe, below a shell", capsys)
    assert verdict.decisions > 10000
    process = picture.recording.one("process")
    assert process.fields["pid"] == child and process.fields["parent"] == server.pid
    assert process.columns["role"] == "server"
    assert process.fields["rank_tensor"] == UNKNOWN
    assert doctor.code == 0, doctor.out + doctor.err
    assert str(child) in doctor.out and "role" in doctor.out, doctor.out


def test_raw_log_of_a_service(tmp_path: Path) -> None:
    """What was logged below a wrapper is replayed to the same stream, also where events were lost."""
    raw, live = tmp_path / "raw", tmp_path / "live"
    busy = mixed_asks(8, count=8, long=(700,), cancelled=1)
    with running(model(EXACT["olmoe"]), tmp_path / "server.log", before=WRAPPER) as server:
        answers, _ = capture_raw(
            server, raw, live, lambda: Crowd(server, busy, 8).start().wait(), poke,
            "--ring", "65536", stall=0.7)
    assert [answer.error for answer in answers if answer.error] == []
    assert differences(read(live), replay(raw, tmp_path / "again")) == []
    assert read(live).lost, "the ring was large enough: nothing was lost"


def test_child_ends_and_wrapper_lives(tmp_path: Path) -> None:
    """The server ends in the middle of a request: that ends, the user is told, and the capture goes
    on until it is stopped."""
    file = tmp_path / "r.moeprobe"
    with running(model(EXACT["olmoe"]), tmp_path / "server.log", Options(slots=1),
                 before=WRAPPER) as server:
        child = below(server)
        with recording(server.pid, file) as record:
            await_attached(server, record)
            os.kill(child, signal.SIGTERM)
            wait_until(lambda: not running_pids([child]), "the child goes on")
            wait_until(lambda: "has ended" in record.said, "it was not said", seconds=10)
            assert record.process.poll() is None
            assert server.alive()
            done = record.stop()
    assert done.code == 0, done.err
    whole = read(file)
    assert whole.complete
    assert STOPS[whole.one("end").fields["stop"]] == "asked"
    begun = {one.fields["request"] for one in whole.of("request_begin")}
    ended = {one.fields["request"]: one.fields["ending"] for one in whole.of("request_end")}
    assert begun == set(ended)
    check_totals(Picture(whole))
    left = [one for one in whole.of("finding") if one.columns["name"] == "left"]
    assert len(left) == 1 and left[0].fields["pid"] == child


def test_server_is_started_again(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                 shows: Shows) -> None:
    """The second server is a process and a context of its own, in the same capture, and exact."""
    path, file = model(EXACT["olmoe"]), tmp_path / "r.moeprobe"
    with running(path, tmp_path / "server.log", before=SUPERVISOR) as server:
        first = below(server)
        with recording(server.pid, file) as record:
            await_attached(server, record)
            os.kill(first, signal.SIGTERM)
            again = Server(server.process, path, server.log)
            wait_listening(again, 1)
            time.sleep(FOLLOW_SECONDS)
            answers = Crowd(again, mixed_asks(7), 8).start().wait()
            again.wait_idle()
            done = record.stop()
        assert below(server) != first
    assert done.code == 0, done.err
    whole = read(file)
    check_totals(Picture(whole))
    processes = {one.fields["process"]: one.fields["pid"] for one in whole.of("process")}
    assert len(processes) == 2 and processes[1] == first
    contexts = {one.fields["context"]: one.fields["process"] for one in whole.of("context")}
    assert contexts == {1: 1, 2: 2}
    verdict = judge(Picture(part(whole, 2)), answers, Oracle(path))
    report(verdict, "olmoe, started again", capsys)
    assert verdict.decisions > 10000
    shows(LLAMA, Picture(whole), answers)


def test_wrapper_ends(tmp_path: Path) -> None:
    """The named process is the service: with its end, or as another program, the capture ends."""
    file = tmp_path / "r.moeprobe"
    with running(model(EXACT["olmoe"]), tmp_path / "server.log", before=WRAPPER) as server:
        with recording(server.pid, file) as record:
            await_attached(server, record)
            server.stop()
            done = record.wait(20)
    assert done.code == 0, done.err
    assert STOPS[read(file).one("end").fields["stop"]] == "target_exit"


def test_no_server_below(tmp_path: Path) -> None:
    """How many processes were looked at is said."""
    process = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60 & wait"],
                               start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(children_of(process.pid)) == 3, "no children")
        done = moeprobe("record", process.pid, "-o", tmp_path / "r.moeprobe")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
    assert done.code == 5
    assert "no known engine runs in it or in the 2 processes below it" in done.err, done.err
