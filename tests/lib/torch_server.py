# SPDX-License-Identifier: BSD-2-Clause
"""Real PyTorch servers as context managers: transformers serve, an operator's own server around
generate(), and a program that uses torch alone."""
from __future__ import annotations

import http.client
import io
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np

from lib.server import Server, wait_listening
from lib.torch_env import PYTHON, TRANSFORMERS, environment

HERE = Path(__file__).parent
IDLE_SECONDS = 0.25
# Pages of 32 tokens, so that prompts can share some. Without a number of blocks it takes nine tenths
# of the machine's memory, and 18 seconds for that.
CONTINUOUS = ("--continuous-batching", "--cb-block-size", "32", "--cb-num-blocks", "256",
              "--cb-max-batch-tokens", "512")
PAGE = 32


class TorchServer(Server):
    """A running server; what it answers to is its kind's own."""

    def wait_idle(self, seconds: float = 60.0) -> None:
        """Until its threads use no processor time (a cancelled request ends a little after its
        client; none of these servers says when)."""
        end = time.monotonic() + seconds
        before = self.ticks()
        while time.monotonic() < end:
            time.sleep(IDLE_SECONDS)
            now = self.ticks()
            if now - before <= 1:
                return
            before = now
        raise TimeoutError("server: still computes")

    def ticks(self) -> int:
        """Processor time so far, in clock ticks."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])


class ServeServer(TorchServer):
    """transformers serve."""

    def still_serves(self) -> bool:
        answer = self.ask("/v1/completions", {"prompt": "ping", "max_tokens": 2})
        return self.alive() and int(answer["usage"]["completion_tokens"]) == 2


class GenerateServer(TorchServer):
    """serve_generate.py."""

    def still_serves(self) -> bool:
        answer = self.ask("/generate", {"prompts": [[112, 105]], "generate": 2})
        return self.alive() and len(answer["generated"][0]) == 2

    def truth(self) -> dict[str, Any]:
        """Every forward since the start, as the model's own modules saw it."""
        with urlopen(f"http://{self.host}:{self.port}/truth", timeout=60) as response:
            return dict(np.load(io.BytesIO(response.read())))


class PlainServer(TorchServer):
    """serve_plain_torch.py."""

    def still_serves(self) -> bool:
        answer = self.ask("/generate", {"tokens": [1, 2, 3], "generate": 2})
        return self.alive() and len(answer["generated"]) == 2


class UvicornServer(TorchServer):
    """serve_uvicorn.py, with or without TLS."""

    certificate: Path | None = None

    def connection(self, seconds: float = 300) -> http.client.HTTPConnection:
        if not self.certificate:
            return http.client.HTTPConnection(self.host, self.port, timeout=seconds)
        trust = ssl.create_default_context(cafile=str(self.certificate))
        return http.client.HTTPSConnection(self.host, self.port, timeout=seconds, context=trust)

    def healthy(self) -> bool:
        connection = self.connection(5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 of our own making, and its key."""
    made, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", str(key), "-out", str(made)], check=True, capture_output=True)
    return made, key


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start(command: list[str], log: Path, **variables: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(command, env=environment() | variables, stdout=output,
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def on_loop(loop: str) -> dict[str, str]:
    """Variables with which uvicorn runs on @loop, "asyncio" or "uvloop": it takes uvloop where that
    can be imported."""
    path = os.environ.get("PYTHONPATH", "")
    return {} if loop == "uvloop" else \
        {"PYTHONPATH": os.pathsep.join(filter(None, (str(HERE / "no_uvloop"), path)))}


@contextmanager
def stopping(server: Server) -> Iterator[None]:
    try:
        wait_listening(server)
        yield
    finally:
        server.stop()


@contextmanager
def serving(model: Path, log: Path, *options: str, loop: str = "asyncio",
            **variables: str) -> Iterator[ServeServer]:
    """`transformers serve` on @model, a folder or an id. With CONTINUOUS the first request's sampling
    parameters are those of all. @variables: of its environment."""
    port = free_port()
    process = start([str(TRANSFORMERS), "serve", str(model), "--device", "cpu", "--host",
                     "127.0.0.1", "--port", str(port), *options], log, **on_loop(loop), **variables)
    server = ServeServer(process, model, log, "127.0.0.1", port)
    with stopping(server):
        yield server


@contextmanager
def generating(model: Path, log: Path, *options: str) -> Iterator[GenerateServer]:
    """An operator's own server around generate()."""
    process = start([str(PYTHON), str(HERE / "serve_generate.py"), str(model), *options], log)
    server = GenerateServer(process, model, log)
    with stopping(server):
        yield server


@contextmanager
def uvicorn(model: Path, log: Path, loop: str, tls: tuple[Path, Path] | None = None,
            ) -> Iterator[UvicornServer]:
    """An operator's own server on uvicorn; @tls: a certificate and its key."""
    process = start([str(PYTHON), str(HERE / "serve_uvicorn.py"), str(model), "--loop", loop,
                     *(("--tls", *map(str, tls)) if tls else ())], log)
    server = UvicornServer(process, model, log)
    server.certificate = tls[0] if tls else None
    with stopping(server):
        yield server


@contextmanager
def plain_torch(log: Path, *options: str) -> Iterator[PlainServer]:
    """A program that uses torch without transformers."""
    process = start([str(PYTHON), str(HERE / "serve_plain_torch.py"), *options], log)
    server = PlainServer(process, HERE, log)
    with stopping(server):
        yield server
