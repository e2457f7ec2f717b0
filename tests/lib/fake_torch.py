# SPDX-License-Identifier: BSD-2-Clause
"""A process with tests/tools/fake_torch.c for its PyTorch, that computes and sends what it is told.
Run as a program it is that process: FOLDER is where the library lies."""
from __future__ import annotations

import ctypes
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PYTHON = Path(sys.executable).resolve()
SOURCE = Path(__file__).parents[1] / "tools" / "fake_torch.c"
LAYERS, EXPERTS, CHOSEN = 3, 16, 4


def compiled(folder: Path, *defines: str, stripped: bool = False) -> Path:
    """The library as @defines want it."""
    library = folder / "libtorch_cpu.so"
    subprocess.run(["cc", "-O1", "-g", "-shared", "-fPIC", *(f"-D{one}" for one in defines),
                    *(["-s"] if stripped else []), "-o", str(library), str(SOURCE)], check=True)
    return library


def chosen(token: int, layer: int) -> list[int]:
    """The experts of a row in gate order, as score() makes them."""
    return sorted(range(EXPERTS), key=lambda expert: -((expert * 5 + token + layer) % EXPERTS)
                  )[:CHOSEN]


class FakeTorch:
    """What the process is told; each call returns when it has been done."""

    def __init__(self, library: Path, *line: str | Path) -> None:
        """@line: its command line, instead of Python's own with this file."""
        self.process = subprocess.Popen([*(line or (sys.executable, __file__)), str(library)],
                                        executable=PYTHON if line else None, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._await()

    @property
    def pid(self) -> int:
        return self.process.pid

    def _await(self) -> None:
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ok\n":
            raise RuntimeError(f"the fake ended with {self.process.wait()}")

    def _tell(self, what: dict[str, object]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        self._await()

    def step(self, tokens: list[int], first: int = 0, embeds: bool = True) -> None:
        """One forward computation. Not @embeds: as where it was compiled away."""
        self._tell({"tokens": tokens, "first": first, "embeds": embeds})

    def generate(self, prompt: list[int], generated: list[int]) -> None:
        """A sequence: the last token of a text is never computed."""
        self.step(prompt)
        for number, token in enumerate(generated[:-1]):
            self.step([token], len(prompt) + number)

    def send(self, piece: bytes, connection: int = 0) -> None:
        self._tell({"send": piece.hex(), "connection": connection})

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def fake_torch(folder: Path, *defines: str, stripped: bool = False) -> Iterator[FakeTorch]:
    fake = FakeTorch(compiled(folder, *defines, stripped=stripped))
    try:
        yield fake
    finally:
        fake.close()


# vLLM's API server is its child's parent, and both are called as vLLM calls them.
VLLM = """import os, subprocess, sys
subprocess.Popen([sys.argv[2], sys.argv[3], sys.argv[-1]],
                 executable=os.path.realpath("/proc/self/exe")).wait()
"""


@contextmanager
def fake_vllm(folder: Path, title: str) -> Iterator[FakeTorch]:
    """As of a vLLM: a `vllm serve`, below it a process @title with PyTorch and no library of
    vLLM's. `pid` is the former; what is told is done by the latter."""
    script = folder / "vllm"
    script.write_text(VLLM)
    fake = FakeTorch(compiled(folder), "python3", script, "serve", title, __file__)
    try:
        yield fake
    finally:
        fake.close()


@contextmanager
def fake_helper(folder: Path, *line: str) -> Iterator[FakeTorch]:
    """PyTorch in a process that says by its command line @line what it is."""
    fake = FakeTorch(compiled(folder), "python3", __file__, *line)
    try:
        yield fake
    finally:
        fake.close()


def main() -> None:
    library = ctypes.CDLL(sys.argv[-1])
    ends: dict[int, tuple[socket.socket, socket.socket]] = {}
    print("ok", flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        if "send" in told:
            sender, receiver = ends.setdefault(told["connection"], socket.socketpair())
            piece = bytes.fromhex(told["send"])
            while piece:
                sent = sender.send(piece)
                receiver.recv(sent)
                piece = piece[sent:]
        else:
            tokens = told["tokens"]
            library.fake_step((ctypes.c_int64 * len(tokens))(*tokens), len(tokens),
                              told["first"], LAYERS, int(told["embeds"]))
        print("ok", flush=True)


if __name__ == "__main__":
    main()
