# SPDX-License-Identifier: BSD-2-Clause
"""A real vLLM as a context manager: an API server, an engine core and workers."""
from __future__ import annotations

import http.client
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lib.server import Server
from lib.torch_env import log_tail
from lib.torch_server import free_port
from lib.vllm_env import ENVIRONMENT, VLLM, environment

START_SECONDS = 300.0
STOP_SECONDS = 30.0
IDLE_SECONDS = 0.3
FUSED, OTHER_NAME = b"_Z13cpu_fused_moeRN2at", b"_Z13cpu_fused_nNeRN2at"
BLOCK = 32  # tokens of a block of keys and values: the least that its CPU attention takes


@dataclass(frozen=True)
class Setting:
    """How vLLM runs; the defaults are those of an exact run."""

    context: int = 1024
    requests: int = 8         # that are computed together
    blocks: int | None = None # of keys and values, BLOCK tokens each; few: requests are preempted
    chunk: int | None = None  # rows of a step at most, so that longer prompts come in pieces
    tensor: int = 1           # processes that compute each a part of every layer
    pipeline: int = 1         # processes that compute each a part of the layers
    request_ids: bool = True  # x-request-id comes back as a header

    @property
    def arguments(self) -> list[str]:
        given = ["--max-model-len", str(self.context), "--max-num-seqs", str(self.requests),
                 "--dtype", "float32", "--block-size", str(BLOCK),
                 "--tensor-parallel-size", str(self.tensor),
                 "--pipeline-parallel-size", str(self.pipeline), "--enable-prompt-tokens-details"]
        if self.blocks is not None:
            given += ["--num-gpu-blocks-override", str(self.blocks)]
        if self.chunk is not None:
            given += ["--max-num-batched-tokens", str(self.chunk)]
        if self.request_ids:
            given.append("--enable-request-id-headers")
        return given


def children(pid: int) -> list[int]:
    """The children of all threads of @pid."""
    try:
        return [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
                for child in (task / "children").read_text().split()]
    except OSError:
        return []


def title(pid: int) -> str:
    """What the process calls itself."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode().strip()
    except OSError:
        return ""


def ticks(pid: int) -> int:
    """Processor time so far, in clock ticks."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


class VllmServer(Server):
    """A running vLLM; `pid` is the API server."""

    def healthy(self) -> bool:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def still_serves(self) -> bool:
        answer = self.ask("/v1/completions", {"prompt": "ping", "max_tokens": 2,
                                              "ignore_eos": True})
        return self.alive() and int(answer["usage"]["completion_tokens"]) == 2

    def family(self) -> list[int]:
        """The API server and all below it."""
        found = [self.pid]
        for pid in found:
            found += children(pid)
        return found

    def workers(self) -> dict[str, int]:
        """The processes that compute, by what they call themselves."""
        return {name: pid for pid in self.family()
                if (name := title(pid)).startswith("VLLM::Worker")}

    def library(self) -> str:
        """The one of its libraries of kernels that a worker computes with."""
        maps = Path(f"/proc/{next(iter(self.workers().values()))}/maps").read_text()
        found = set(re.findall(r"/vllm/(_C[^/ \n]*\.so)", maps))
        if len(found) != 1:
            raise RuntimeError(f"libraries of kernels: {found}")
        return found.pop()

    def wait_idle(self, seconds: float = 60.0) -> None:
        """Until its processes use hardly any time (a cancelled request ends a little after its
        client, and vLLM does not say when; its engine core polls now and then)."""
        end = time.monotonic() + seconds
        family = self.family()
        before = sum(map(ticks, family))
        while time.monotonic() < end:
            time.sleep(IDLE_SECONDS)
            now = sum(map(ticks, family))
            if now - before <= 3:
                return
            before = now
        raise TimeoutError("vLLM still computes")

    def stop(self) -> None:
        """By SIGINT, which ends the whole tree; a worker that holds probes is never killed."""
        family = self.family()
        if self.alive():
            self.process.send_signal(signal.SIGINT)
        self.process.wait(STOP_SECONDS)
        end = time.monotonic() + STOP_SECONDS
        while any(title(pid).startswith("VLLM::") for pid in family):
            if time.monotonic() > end:
                raise TimeoutError("a process of vLLM did not end")
            time.sleep(0.1)


def wait_healthy(server: VllmServer) -> None:
    end = time.monotonic() + START_SECONDS
    while not server.healthy():
        if not server.alive():
            raise RuntimeError(f"vLLM ended at start: {log_tail(server.log)}")
        if time.monotonic() > end:
            raise TimeoutError(f"vLLM did not come up, see {server.log}")
        time.sleep(0.2)


def other_names(folder: Path) -> dict[str, str]:
    """Make vLLM's package anew in @folder, its files linked, but for the libraries of kernels, in
    which the function that takes the router's choice has another name: of the same hash, so that
    they still find it. What a server needs in its environment to use that package."""
    package = folder / "vllm"
    package.mkdir(parents=True)
    for entry in next(ENVIRONMENT.glob("lib/python*/site-packages/vllm")).iterdir():
        if entry.name.startswith("_C") and entry.suffix == ".so":
            content = entry.read_bytes()
            if content.count(FUSED) < 1:
                raise RuntimeError(f"{entry.name} has no {FUSED.decode()}")
            (package / entry.name).write_bytes(content.replace(FUSED, OTHER_NAME))
        else:
            (package / entry.name).symlink_to(entry)
    return {"PYTHONPATH": str(folder)}


@contextmanager
def vllm_serving(model: Path, log: Path, setting: Setting = Setting(),
                 extra: dict[str, str] | None = None) -> Iterator[VllmServer]:
    """`vllm serve` on the folder @model; its output goes to @log. @extra: of its environment."""
    port = free_port()
    command = [str(VLLM), "serve", str(model), "--host", "127.0.0.1", "--port", str(port),
               "--served-model-name", "model", *setting.arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment() | (extra or {}), stdout=output,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    server = VllmServer(process, model, log, "127.0.0.1", port)
    try:
        wait_healthy(server)
        yield server
    finally:
        server.stop()
