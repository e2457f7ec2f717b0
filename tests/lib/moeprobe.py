# SPDX-License-Identifier: BSD-2-Clause
"""Runs the built programs as a user would."""
from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("MOEPROBE_BUILD", "build")
MOEPROBE = BUILD / "moeprobe"
COLLECTOR = BUILD / "moeprobe-collector"
ATTACH_SECONDS = 20.0


@dataclass
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str

    def error_lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.strip()]


def moeprobe(*arguments: str | Path | int, seconds: float = 60.0, program: Path = MOEPROBE,
             before: tuple[str, ...] = ()) -> Finished:
    """Run to the end. @before: a command to run it under (setpriv ...)."""
    done = subprocess.run([*before, str(program), *map(str, arguments)], capture_output=True,
                          text=True, errors="replace", timeout=seconds, check=False,
                          stdin=subprocess.DEVNULL)
    return Finished(done.returncode, done.stdout, done.stderr)


@dataclass
class Capture:
    """A `moeprobe record` under way."""

    process: subprocess.Popen[bytes]
    file: Path
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def attached(self) -> bool:
        """It says so once data flows."""
        return "attached" in self.said

    def stop(self, seconds: float = 20.0) -> Finished:
        """Ctrl-C, as a user would; then how it ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.wait(seconds)

    def wait(self, seconds: float = 60.0) -> Finished:
        return Finished(self.process.wait(seconds), "", self.said)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = ATTACH_SECONDS,
               poke: Callable[[], object] | None = None) -> None:
    """Until @condition; @poke is called in between (traffic that lets data flow)."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        if poke:
            poke()
        time.sleep(0.02)


@contextmanager
def recording(pid: int, file: Path, *options: str) -> Iterator[Capture]:
    """`moeprobe record` of @pid into @file, ended when the block is left."""
    log = file.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen([str(MOEPROBE), "record", str(pid), "-o", str(file),
                                    "--detail", "tokens", *options],
                                   stdout=output, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL)
    capture = Capture(process, file, log)
    try:
        yield capture
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def children_of(pid: int) -> list[int]:
    """The process and all below it, parents first."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return [pid]
    return [pid, *(below for child in text.split() for below in children_of(int(child)))]
