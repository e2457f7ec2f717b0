# SPDX-License-Identifier: BSD-2-Clause
"""What is attached and detached: moeprobe, and a bpftrace script that delivers the same ids."""
from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.moeprobe import Capture, children_of, recording, running_pids, wait_until
from lib.server import Server
from lib.sites import engine_library

PROCESSES = 3  # moeprobe, broker, reader

# Where the router's tensors are in this engine release: dst, its operands, name, data.
SCRIPT = """
uprobe:{library}:{symbol}
{{
  $dst = reg("si");
  $experts = *(uint64*)($dst + 152);
  $ids = *(uint64*)($experts + 152 + 16);
  if (*(int32*)reg("di") == 0 && $ids != 0 &&
      strncmp(str($ids + 256, 16), "ffn_moe_topk-", 13) == 0) {{
    $rows = *(uint64*)($ids + 24);
    $data = *(uint64*)($ids + 248);
    $row = (uint64)0;
    while ($row < $rows && $row < 64) {{
      printf("%s %d %r\\n", str($ids + 256, 20), $row,
             buf($data + $row * *(uint64*)($ids + 56), {size}));
      $row = $row + 1;
    }}
  }}
}}
"""


def collects(capture: Capture) -> bool:
    """What attaching itself takes is over: programs are loaded, a hit was measured."""
    return len(running_pids(children_of(capture.process.pid))) == PROCESSES


@contextmanager
def moeprobe_observer(server: Server, directory: Path) -> Iterator[Capture]:
    """`moeprobe record` at full detail, from data flowing until it has gone."""
    file = directory / "bench.moeprobe"
    with recording(server.pid, file) as capture:
        wait_until(lambda: capture.attached() or capture.process.poll() is not None,
                   "moeprobe is not attached")
        if capture.process.poll() is not None:
            raise RuntimeError(capture.said)
        wait_until(lambda: collects(capture), "a hit is still measured", 60)
        yield capture
        done = capture.stop()
        if done.code:
            raise RuntimeError(done.err)


@contextmanager
def hits_alone(server: Server, directory: Path) -> Iterator[None]:
    """The probes and nothing else: who reads what they deliver stands still (for about a second; then
    the ring is full)."""
    with moeprobe_observer(server, directory) as capture:
        family = running_pids(children_of(capture.process.pid))
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in family:
                os.kill(pid, signal.SIGCONT)


@contextmanager
def bpftrace_observer(server: Server, symbol: str, k: int) -> Iterator[None]:
    """A script that prints the same expert ids at @symbol, while events arrive."""
    script = SCRIPT.format(library=engine_library(server.pid), symbol=symbol, size=4 * k)
    with tempfile.NamedTemporaryFile("rb", suffix=".out") as output, \
            tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(["bpftrace", "-p", str(server.pid), "-o",
                                    output.name, "-e", script], stdout=subprocess.DEVNULL,
                                   stderr=errors)
        try:
            wait_until(lambda: b"ffn_moe_topk" in Path(output.name).read_bytes()[:4096]
                       or process.poll() is not None, "bpftrace shows nothing", 60)
            if process.poll() is not None:
                errors.seek(0)
                raise RuntimeError(f"bpftrace ended: {errors.read().decode()[:500]}")
            yield
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            time.sleep(0.05)
