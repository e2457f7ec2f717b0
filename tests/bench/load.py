# SPDX-License-Identifier: BSD-2-Clause
"""A steady load on a server, with the time at which each generated token arrived."""
from __future__ import annotations

import http.client
import json
import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lib.server import Server


@dataclass(frozen=True)
class Mark:
    """A moment between two requests of a client."""

    time: float  # time.monotonic()
    tokens: int  # that had arrived
    cpu: dict[str, int]  # nanoseconds that each thread of the server had run


class Load:
    """Clients that generate without pause until they are told to stop. All requests are alike, and
    short: a token costs more the more there are before it, so that a stretch of time is only
    comparable with another if it holds whole requests."""

    def __init__(self, server: Server, clients: int = 1, generate: int = 24) -> None:
        self.server, self.generate = server, generate
        self.over = threading.Event()
        self.times: list[float] = []  # time.monotonic() of each token, of all clients
        self.asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.marks: queue.SimpleQueue[Mark] = queue.SimpleQueue()
        self.threads = [threading.Thread(target=self._client, daemon=True)
                        for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def mark(self) -> Mark:
        """Wait for the end of a request."""
        self.asked.put(None)
        return self.marks.get(timeout=60)

    def _client(self) -> None:
        while not self.over.is_set():
            with suppress(OSError, http.client.HTTPException):
                self._one()
            if not self.asked.empty():
                self.asked.get()
                self.marks.put(Mark(time.monotonic(), len(self.times), self.ran()))

    def ran(self) -> dict[str, int]:
        """Nanoseconds that each thread of the server has run."""
        return thread_times(self.server.pid)

    def _one(self) -> None:
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=60)
        try:
            connection.request("POST", "/completion", json.dumps({
                "prompt": "a steady load", "n_predict": self.generate, "stream": True,
                "temperature": 0, "ignore_eos": True, "cache_prompt": False}),
                {"Content-Type": "application/json"})
            response = connection.getresponse()
            while (line := response.readline()) and not self.over.is_set():
                if line.startswith(b"data: "):
                    self.times.append(time.monotonic())
        finally:
            connection.close()


class GenerateLoad(Load):
    """The same on serve_generate.py, which answers with all tokens at once and has a thread for each
    request: what all of them ran, with those that have ended, is one number."""

    def ran(self) -> dict[str, int]:
        processor_clock = ~self.server.pid << 3 | 2  # as clock_getcpuclockid() makes it
        return {"": time.clock_gettime_ns(processor_clock)}

    def _one(self) -> None:
        self.server.ask("/generate", {"prompts": [[112, 105, 110, 103]],
                                      "generate": self.generate})
        self.times += [time.monotonic()] * self.generate


def thread_times(pid: int) -> dict[str, int]:
    """Nanoseconds that each thread of the process has run."""
    times = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            times[task.name] = int((task / "schedstat").read_text().split()[0])
    return times
