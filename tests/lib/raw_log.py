# SPDX-License-Identifier: BSD-2-Clause
"""Raw logs: recorded beside a live stream, replayed without a server, and compared with it."""
from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.client import Answer
from lib.golden import plain
from lib.moeprobe import COLLECTOR, children_of, wait_until
from lib.recording import Recording, read

# Said of the collector's own run, not of what it read: when it wrote, what its probes cost, what it
# told its user. A replay places no probes.
OF_THE_RUN = ("clock", "cost", "finding")
OWN_TIME = ("source", "process")  # the time of these is when they were written
NOT_COMPARED = (("end", "records"),)  # those of the run are among them


def stop_for(pids: list[int], seconds: float) -> None:
    if not seconds:
        return
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def capture_raw(server: Any, raw: Path, live: Path, work: Callable[[], list[Answer]],
                poke: Callable[[Any, int], Answer], *options: str, stall: float = 0.0,
                ) -> tuple[list[Answer], list[Answer]]:
    """Capture @server into the stream @live and the raw log @raw while @work is done: its answers,
    and those made until results were seen. The collector is stopped for @stall seconds meanwhile,
    so that its ring overflows."""
    early: list[Answer] = []
    with live.open("wb") as out, live.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [str(COLLECTOR), str(server.pid), "--raw-log", str(raw), *options],
            stdout=out, stderr=log, stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: process.poll() is not None or bool(live.stat().st_size),
                       "no stream")
            wait_until(lambda: process.poll() is not None or bool(read(live).of("route")),
                       "no results", poke=lambda: early.append(poke(server, len(early))))
            server.wait_idle()
            staller = threading.Thread(target=stop_for, args=(children_of(process.pid), stall))
            staller.start()
            answers = work()
            staller.join()
            server.wait_idle()
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
    if code:
        raise RuntimeError(f"the collector ended with {code}: "
                           f"{live.with_suffix('.log').read_text(errors='replace')}")
    return answers, early


def replay(raw: Path, out: Path) -> Recording:
    """What assembly makes of @raw, without a server; also in @out."""
    with out.open("wb") as stream:
        done = subprocess.run([str(COLLECTOR), "--replay", str(raw)], stdout=stream, timeout=120,
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace").strip())
    return read(out)


def comparable(recording: Recording) -> list[dict[str, Any]]:
    """All that the replay of a raw log must say again, in order."""
    kept = []
    for record in recording.records:
        if record.type in OF_THE_RUN:
            continue
        fields = {name: plain(value) for name, value in record.fields.items()
                  if (record.type, name) not in NOT_COMPARED and name != "place"}
        kept.append({"type": record.type, "flags": record.flags, "source": record.source,
                     "time_ns": None if record.type in OWN_TIME else record.time_ns,
                     "fields": fields, "columns": {name: plain(value) for name, value
                                                   in record.columns.items()}})
    return kept


def differences(live: Recording, again: Recording) -> list[str]:
    """Where a replay says something else than the live stream, record by record."""
    first, second = comparable(live), comparable(again)
    faults = [f"record {number}: {one} live, {other} replayed"[:600]
              for number, (one, other) in enumerate(zip(first, second)) if one != other]
    if len(first) != len(second):
        faults.append(f"{len(first)} records live, {len(second)} replayed")
    return faults
