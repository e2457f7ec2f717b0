# SPDX-License-Identifier: BSD-2-Clause
"""How soon the first record comes, how soon the probes are gone, what the collector needs."""
from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.load import Load
from lib.moeprobe import MOEPROBE, children_of, recording, wait_until
from lib.recording import block_at, check_file_header, read
from lib.sites import code_at

BREAKPOINT = b"\xcc"
DIP_SECONDS = 0.7


def first_route(pid: int) -> float:
    """Seconds from the command to the first router result on its standard output."""
    begin = time.monotonic()
    process = subprocess.Popen([str(MOEPROBE), "record", str(pid), "-o", "-", "--detail",
                                "tokens"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    data, place = b"", 0
    try:
        while time.monotonic() < begin + 20:
            part = os.read(process.stdout.fileno(), 1 << 20)
            if not part:
                raise RuntimeError("moeprobe ended")
            data += part
            if not place and len(data) >= 32:
                place = check_file_header(data)
            while place and (block := block_at(data, place)):
                if any(record.type == "route" for record in block[0]):
                    return time.monotonic() - begin
                place = block[1]
        raise TimeoutError("no router result")
    finally:
        process.send_signal(signal.SIGINT)
        process.stdout.close()
        process.wait(20)


def attach_dip(pid: int, load: Load) -> float:
    """How much the rate of tokens changes while moeprobe attaches: reads libraries, has programs
    verified, measures a hit. -0.2: a fifth fewer."""
    count = len(load.times)
    time.sleep(2 * DIP_SECONDS)
    before = (len(load.times) - count) / 2
    process = subprocess.Popen([str(MOEPROBE), "record", str(pid), "-o", "-"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    count = len(load.times)
    time.sleep(DIP_SECONDS)
    during = len(load.times) - count
    process.send_signal(signal.SIGINT)
    process.wait(20)
    return during / before - 1


def detach(pid: int, directory: Path, places: list[int]) -> tuple[float, float]:
    """Seconds from Ctrl-C until the target's code is as it was, and until the command has ended."""
    with recording(pid, directory / "detach.moeprobe") as capture:
        wait_until(capture.attached, "not attached")
        time.sleep(0.3)
        assert BREAKPOINT in code_at(pid, places)
        begin = time.monotonic()
        capture.process.send_signal(signal.SIGINT)
        while BREAKPOINT in code_at(pid, places):
            time.sleep(0.001)
        free = time.monotonic() - begin
        capture.process.wait(20)
        return free, time.monotonic() - begin


@dataclass(frozen=True)
class Speed:
    """A capture at the server's full speed."""

    seconds: float
    decisions: int
    lost: int
    resident: int  # bytes, largest sum over the collector's processes


def full_speed(pid: int, directory: Path, seconds: float) -> Speed:
    resident = 0
    with recording(pid, directory / "speed.moeprobe") as capture:
        wait_until(capture.attached, "not attached")
        begin = time.monotonic()
        while time.monotonic() < begin + seconds:
            collectors = children_of(capture.process.pid)[1:]
            resident = max(resident, sum(resident_bytes(one) for one in collectors))
            time.sleep(0.1)
        length = time.monotonic() - begin
        capture.stop()
    recorded = read(directory / "speed.moeprobe")
    return Speed(length, recorded.one("end").fields["decisions"], recorded.lost, resident)


def resident_bytes(pid: int) -> int:
    with suppress(OSError):
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return 1024 * int(found[1]) if found else 0
    return 0


def spread(seconds: list[float], bound: float) -> str:
    ordered = sorted(seconds)
    return (f"{1e3 * ordered[0]:.0f} to {1e3 * ordered[-1]:.0f} ms, median "
            f"{1e3 * ordered[len(ordered) // 2]:.0f} ms, {len(ordered)} times (bound "
            f"{1e3 * bound:.0f} ms)")
