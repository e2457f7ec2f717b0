# SPDX-License-Identifier: BSD-2-Clause
"""Runs the built programs as a user would."""
from __future__ import annotations

import json
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
# Until the kernel has freed what held probes: it waits until no program of them can still run, which
# took more than ten seconds on a machine with five times as much to do as it has processors.
KERNEL_SECONDS = 60.0

# A shell starts its background jobs with SIGINT ignored, and what we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
        return "data flows" in self.said

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
def recording(pid: int, file: Path, *options: str, detail: str = "tokens") -> Iterator[Capture]:
    """`moeprobe record` of @pid into @file, ended when the block is left."""
    log = file.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen([str(MOEPROBE), "record", str(pid), "-o", str(file),
                                    "--detail", detail, *options],
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


# --- what is left in the kernel ---------------------------------------------------------------

BPFTOOL = next((path for path in ("/usr/sbin/bpftool", "/usr/bin/bpftool")
                if Path(path).exists()), "bpftool")
KERNEL_OBJECTS = {"link_id": "link", "prog_id": "prog", "map_id": "map"}


def kernel_objects(pids: list[int]) -> set[tuple[str, int]]:
    """BPF links, programs and maps that these processes hold: (kind, id)."""
    held: set[tuple[str, int]] = set()
    for pid in pids:
        for info in Path(f"/proc/{pid}/fdinfo").glob("*"):
            try:
                lines = info.read_text().splitlines()
            except OSError:
                continue
            for line in lines:
                name, _, value = line.partition(":")
                if name in KERNEL_OBJECTS and value.strip().isdigit():
                    held.add((KERNEL_OBJECTS[name], int(value)))
    return held


def existing(objects: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of @objects that the kernel still has."""
    left: set[tuple[str, int]] = set()
    for kind in {kind for kind, _ in objects}:
        listed = subprocess.run([BPFTOOL, "--json", kind, "list"], capture_output=True,
                                text=True, check=True).stdout
        ids = {int(one["id"]) for one in json.loads(listed or "[]")}
        left |= {(kind, number) for wanted, number in objects if wanted == kind
                 and number in ids}
    return left


def running_pids(pids: list[int]) -> list[int]:
    """Those that run; a zombie does not."""
    alive = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            alive.append(pid)
    return alive
