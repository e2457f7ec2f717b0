# SPDX-License-Identifier: BSD-2-Clause
"""A ring that is too small: what is lost is counted, so that delivered + lost is what the
clients' own counts demand, exactly."""
from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from lib.client import NATIVE, TEXT, Answer, Ask, Crowd, text_of
from lib.exact import await_attached
from lib.moeprobe import children_of, recording
from lib.recording import Picture, Request, read
from lib.server import Server

pytestmark = pytest.mark.root

ROW_LOSSES = {1, 4, 6}  # results lost in the ring, with a missing chunk, without their step


def busy_asks(source_seed: int) -> list[Ask]:
    import random

    source = random.Random(source_seed)
    return [Ask((TEXT, NATIVE)[number % 2], f"{number} {text_of(source, 900)}", 12,
                seed=300 + number, cache=False) for number in range(16)]


def demanded(answer: Answer, layers: int) -> int:
    """Rows x layers that the server routed: in the last layer only rows with output."""
    assert answer.finished and answer.count is not None
    return answer.rows * (layers - 1) + answer.count


def pause_readers(pids: list[int], seconds: float) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def routed(request: Request) -> int:
    return sum(len(entries) for entries in request.routes.values())


def test_delivered_and_lost_add_up(olmoe_server: Server, tmp_path: Path,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "small.moeprobe"
    with recording(olmoe_server.pid, file, "--ring", "65536") as record:
        early = await_attached(olmoe_server, record)
        crowd = Crowd(olmoe_server, busy_asks(5), 8).start()
        collectors = children_of(record.process.pid)[1:]
        pause = threading.Thread(target=pause_readers, args=(collectors, 0.7))
        pause.start()
        answers = crowd.wait()
        pause.join()
        olmoe_server.wait_idle()
        done = record.stop()
    assert done.code == 0, done.err
    picture = Picture(read(file))
    layers = len(picture.layers)
    early_ids = {answer.client_id for answer in early}
    early_routed = sum(routed(request) for request in picture.requests.values()
                       if request.before_attach
                       or str(request.begin.columns["client_id"]) in early_ids)
    lost = sum(loss.fields["decisions"] for loss in picture.recording.of("loss")
               if loss.fields["cause"] in ROW_LOSSES)
    wanted = sum(demanded(answer, layers) for answer in answers)
    delivered = picture.decisions - early_routed
    with capsys.disabled():
        print(f"\n  64 KiB ring: {delivered} delivered + {lost} lost of {wanted} decisions")
    assert lost > 0, "the ring was large enough: nothing was tested"
    assert delivered + lost == wanted
    for request in picture.requests.values():
        for coverage in request.coverage:
            fields = coverage.fields
            assert fields["expected"] == fields["seen"] + sum(
                fields[cause] for cause in ("cached", "not_computed", "lost", "invalid",
                                            "before_attach", "not_routed", "after_detach"))


def test_max_loss_ends_with_6(olmoe_server: Server, tmp_path: Path) -> None:
    """--max-loss: the same loss is an exit code."""
    with recording(olmoe_server.pid, tmp_path / "r.moeprobe", "--ring", "65536",
                   "--max-loss", "0.01") as record:
        await_attached(olmoe_server, record)
        crowd = Crowd(olmoe_server, busy_asks(6), 8).start()
        pause_readers(children_of(record.process.pid)[1:], 0.7)
        crowd.wait()
        done = record.stop()
    assert done.code == 6, done.err
    assert "--max-loss (mostly " in done.err and "ring full" in done.err, done.err
    assert "larger --ring" in done.err, done.err
    assert "recorded " in done.err and "not all" not in done.err, done.err
    assert olmoe_server.still_serves()
