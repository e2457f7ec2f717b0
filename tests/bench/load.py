# SPDX-License-Identifier: BSD-2-Clause
"""A steady load on a server, with the time at which each generated token arrived."""
from __future__ import annotations

import http.client
import json
import threading
import time
from bisect import bisect_left
from contextlib import suppress
from pathlib import Path

from lib.server import Server


class Load:
    """Clients that generate without pause until they are told to stop."""

    def __init__(self, server: Server, clients: int = 1, generate: int = 400) -> None:
        self.server, self.generate = server, generate
        self.over = threading.Event()
        self.times: list[float] = []  # time.monotonic() of each token, of all clients
        self.threads = [threading.Thread(target=self._client, args=(number,), daemon=True)
                        for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _client(self, number: int) -> None:
        request = 0
        while not self.over.is_set():
            with suppress(OSError, http.client.HTTPException):
                self._one(f"load {number} {request}")
            request += 1

    def _one(self, prompt: str) -> None:
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=60)
        try:
            connection.request("POST", "/completion", json.dumps({
                "prompt": prompt, "n_predict": self.generate, "stream": True,
                "cache_prompt": False}), {"Content-Type": "application/json"})
            response = connection.getresponse()
            while (line := response.readline()) and not self.over.is_set():
                if line.startswith(b"data: "):
                    self.times.append(time.monotonic())
        finally:
            connection.close()

    def between(self, begin: float, end: float) -> int:
        """Tokens that arrived in this time (one client: exact)."""
        return bisect_left(self.times, end) - bisect_left(self.times, begin)


def thread_times(pid: int) -> int:
    """Nanoseconds that all threads of the process have run."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total
