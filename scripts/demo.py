"""The second half of `make demo`: a real server under a little load, and moeprobe on it."""
from __future__ import annotations

import http.client
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tests.lib.server import Options, Server, running  # noqa: E402
from tests.models.make_model import Shape, make_model  # noqa: E402

SECONDS_WITHOUT_TERMINAL = 20
CLIENTS = 3
INTERRUPTED = 128 + signal.SIGINT  # before there was a picture
PROMPTS = [
    "Write a function that sorts a list of numbers.",
    "What is the capital of France, and why?",
    "Solve for x: 3x + 5 = 20. Show every step.",
    "Translate to German: the weather is nice today.",
    "Summarise the plot of a story about a lighthouse keeper.",
]


def ask(server: Server, stop: threading.Event, first: int) -> None:
    """One client: one request after the other until told to stop."""
    for prompt in itertools.islice(itertools.cycle(PROMPTS), first, None):
        if stop.is_set():
            return
        try:
            server.ask("/v1/chat/completions", {
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": 96, "ignore_eos": True})
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            if not stop.is_set():
                print(f"demo: request failed: {error}", file=sys.stderr)
        stop.wait(0.2)


def moeprobe(arguments: list[str]) -> list[str]:
    """The command line that runs moeprobe with the rights it needs."""
    command = [str(ROOT / "build" / "moeprobe"), *arguments]
    return command if os.geteuid() == 0 else ["sudo", *command]


def show(pid: int) -> int:
    """Attach; without a terminal, for a while, and make sure that routes arrived."""
    if sys.stdout.isatty():
        return subprocess.run(moeprobe(["attach", str(pid)]), check=False).returncode
    run = subprocess.run(moeprobe(["attach", str(pid), "-d", str(SECONDS_WITHOUT_TERMINAL)]),
                         check=False, stdout=subprocess.PIPE, text=True)
    sys.stdout.write(run.stdout)
    if run.returncode == 0 and not routes_arrived(run.stdout):
        print("demo: no route arrived", file=sys.stderr)
        return 1
    return run.returncode


def routes_arrived(text: str) -> bool:
    """True if the last status of the text view counts router decisions."""
    counts = [word.split("=", 1)[1] for word in text.split() if word.startswith("decisions=")]
    return bool(counts) and counts[-1].isdigit() and int(counts[-1]) > 0


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="moeprobe-demo-") as folder:
        model = Path(folder) / "demo-olmoe.gguf"
        make_model(model, Shape(arch="olmoe", layers=6, experts=16, k=2))
        # Ctrl-C reaches the whole terminal: moeprobe leaves in order, then the server is stopped.
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server inherits it
        with running(model, Path(folder) / "server.log", Options(slots=CLIENTS, threads=1)) as server:
            print(f"demo: llama.cpp server, pid {server.pid}, port {server.port}, model {model.name}")
            stop = threading.Event()
            signal.signal(signal.SIGINT, lambda *_: stop.set())
            clients = [threading.Thread(target=ask, args=(server, stop, i), daemon=True)
                       for i in range(CLIENTS)]
            for client in clients:
                client.start()
            try:
                return INTERRUPTED if stop.wait(1) else show(server.pid)
            finally:
                stop.set()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
