# SPDX-License-Identifier: BSD-2-Clause
"""Real llama.cpp servers as context managers: started, waited for, always ended."""
from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lib.moeprobe import children_of

SERVE = Path(__file__).with_name("serve_xllamacpp.py")
START_SECONDS = 120.0


@dataclass(frozen=True)
class Options:
    """How the server runs; the defaults are those of an exact run: f32 cache, no flash."""

    slots: int = 4
    context: int = 8192
    threads: int = 2
    batch: int = 2048
    ubatch: int = 512
    kv_type: str = "f32"
    flash_attention: str = "disabled"
    load_mode: str = "auto"
    kv_unified: bool = False
    second: str = ""  # model of a second server in the same process
    library: str = ""

    def arguments(self) -> list[str]:
        given: list[str] = []
        for name, value in vars(self).items():
            flag = "--" + name.replace("_", "-")
            if value is True:
                given.append(flag)
            elif value not in (False, ""):
                given += [flag, str(value)]
        return given


DEFAULT_SETTINGS = Options(kv_type="f16", flash_attention="auto")


@dataclass
class Server:
    """A running server: `pid` is the process to attach to."""

    process: subprocess.Popen[bytes]
    model: Path
    log: Path
    host: str = ""
    port: int = 0
    options: Options = field(default_factory=Options)

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def ask(self, path: str, body: dict[str, Any] | None = None, seconds: float = 120.0) -> Any:
        """One request, its answer as JSON. Raises RuntimeError with the server's words."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=seconds)
        try:
            connection.request("POST" if body is not None else "GET", path,
                               json.dumps(body) if body is not None else None,
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
            if response.status != 200:
                raise RuntimeError(f"{path}: status {response.status}: {text[:500]!r}")
            return json.loads(text)
        finally:
            connection.close()

    def healthy(self) -> bool:
        try:
            return bool(self.ask("/health", seconds=5)["status"] == "ok")
        except (OSError, RuntimeError, http.client.HTTPException):
            return False

    def still_serves(self) -> bool:
        """True if it generates: what every test of bad input must find afterwards."""
        answer = self.ask("/completion", {"prompt": "ping", "n_predict": 2})
        return self.alive() and int(answer["tokens_predicted"]) == 2

    def wait_idle(self, seconds: float = 30.0) -> None:
        """Until no slot computes (a cancelled request ends a little after its client)."""
        end = time.monotonic() + seconds
        while any(slot["is_processing"] for slot in self.ask("/slots")):
            if time.monotonic() > end:
                raise TimeoutError("server: slots are still busy")
            time.sleep(0.02)

    def stop(self) -> None:
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


def wait_listening(server: Server, number: int = 0) -> None:
    """Read the address of its @number-th server from the log, then wait for health."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if not server.alive():
            raise RuntimeError(f"server ended at start: {server.log.read_text()[-2000:]}")
        if not server.port:
            said = [line for line in server.log.read_text(errors="replace").splitlines()
                    if line.startswith("LISTEN ")]
            if len(said) > number:
                url = urlsplit(said[number].split()[1])
                server.host, server.port = url.hostname or "127.0.0.1", url.port or 0
        if server.port and server.healthy():
            return
        time.sleep(0.05)
    raise TimeoutError(f"server did not come up, see {server.log}")


@contextmanager
def running(model: Path, log: Path, options: Options = Options(),
            before: tuple[str, ...] = ()) -> Iterator[Server]:
    """A server on @model, serving; its output goes to @log. @before: a command to run it under,
    which is then the process of the result and ends it."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*before, sys.executable, str(SERVE), str(model), *options.arguments()],
            stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    server = Server(process, model, log, options=options)
    try:
        wait_listening(server)
        yield server
    finally:
        server.stop()


# A supervisor: it starts its server again.
AGAIN = """trap 'kill $child; wait $child; exit 0' TERM
while :; do "$@" & child=$!; wait $child; done"""
SUPERVISOR = ("sh", "-c", AGAIN, "supervisor")


def below(server: Server) -> int:
    """The server itself, below what it was started with."""
    found = [pid for pid in children_of(server.pid)[1:]
             if "python" in Path(f"/proc/{pid}/comm").read_text()]
    if len(found) != 1:
        raise RuntimeError(f"servers below process {server.pid}: {found}")
    return found[0]


def second(server: Server) -> Server:
    """The other server in the same process; it ends with the first."""
    other = Server(server.process, Path(server.options.second), server.log,
                   options=server.options)
    wait_listening(other, 1)
    return other
