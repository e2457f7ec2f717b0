# SPDX-License-Identifier: BSD-2-Clause
"""The process that parses what the target says has no rights, makes no system call but its own
few, and can use up no more than its share: asked of the kernel while it runs."""
from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lib.fake_llama import await_placed, check_sums, target
from lib.moeprobe import BUILD, COLLECTOR, Capture, children_of, recording, wait_until
from lib.recording import STOPS, read

pytestmark = [pytest.mark.root,
              pytest.mark.skipif(BUILD.name == "san", reason="sanitizers need more than that")]

GIB = 1 << 30


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def limits(pid: int) -> dict[str, list[str]]:
    """Name -> soft and hard limit."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:25].strip(): line[26:].split()[:2] for line in lines}


def is_nobody(pid: int) -> bool:
    try:
        return status(pid)["Uid"].split()[0] != "0"
    except OSError:
        return False  # what measures a hit comes and goes


def collectors_of(capture: Capture) -> tuple[int, int]:
    """Broker and reader: the collector, and its child that is nobody."""
    broker, *below = children_of(capture.process.pid)[1:]
    readers = [pid for pid in below if is_nobody(pid)]
    assert len(readers) == 1, below
    return broker, readers[0]


@contextmanager
def captured(file: Path) -> Iterator[Capture]:
    with target("good", 100000, 1000) as one, recording(one.pid, file) as capture:
        await_placed(capture)
        one.go_on()
        wait_until(lambda: file.stat().st_size > 4000, "no data")
        yield capture


def check_powerless(pid: int) -> None:
    found = status(pid)
    nobody = pwd.getpwnam("nobody")
    assert found["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert found["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert found["Groups"] == ""
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(found[name], 16) == 0, name
    assert found["NoNewPrivs"] == "1"
    assert found["Seccomp"] == "2"


def check_bounded(pid: int) -> None:
    found = limits(pid)
    assert found["Max core file size"] == ["0", "0"]
    assert found["Max processes"] == ["0", "0"]
    for name, most in (("Max open files", 1024), ("Max data size", 4 * GIB)):
        assert all(int(value) <= most for value in found[name]), found[name]


def test_reader_is_confined(tmp_path: Path) -> None:
    file = tmp_path / "r.moeprobe"
    with captured(file) as capture:
        broker, reader = collectors_of(capture)
        assert status(broker)["Seccomp"] == "0" and int(status(broker)["CapEff"], 16)
        check_powerless(reader)
        check_bounded(reader)
        done = capture.stop()
    assert done.code == 0, done.err
    check_sums(read(file))


def test_reader_that_is_ended_by_the_filter_is_named(tmp_path: Path) -> None:
    """As if it had made a call that only a process taken over makes."""
    with captured(tmp_path / "r.moeprobe") as capture:
        _, reader = collectors_of(capture)
        os.kill(reader, signal.SIGSYS)
        done = capture.wait(10)
    assert done.code == 1, done.err
    assert "Bad system call" in done.err and "attack" in done.err and "report it" in done.err
    assert "start it again" not in done.err


@pytest.mark.parametrize("megabytes", [1, 2, 3, 4, 6, 16])
def test_too_little_memory_is_an_error(megabytes: int, tmp_path: Path) -> None:
    """Wherever it runs out: it says so, or it was enough; it never crashes."""
    log, stream = tmp_path / "raw", tmp_path / "stream"
    with target("good", 300, 1000) as one:
        with stream.open("wb") as out, subprocess.Popen(
                [str(COLLECTOR), "--raw-log", str(log), str(one.pid)], stdout=out,
                stderr=subprocess.PIPE) as attached:
            time.sleep(0.5)
            one.go_on()
            one.check_ran(300)
            attached.send_signal(signal.SIGINT)
            assert attached.wait(10) == 0
    with stream.open("wb") as out:
        done = subprocess.run(["prlimit", f"--data={megabytes << 20}", str(COLLECTOR), "--replay",
                               str(log)], stdout=out, stderr=subprocess.PIPE, text=True,
                              check=False, timeout=60)
    if done.returncode == 0:
        assert STOPS[read(stream).one("end").fields["stop"]] == "asked"
        return
    assert done.returncode == 1, done
    assert "moeprobe-collector: " in done.stderr and "emory" in done.stderr, done.stderr
