# SPDX-License-Identifier: BSD-2-Clause
"""What moeprobe costs and how fast it is, as ratios within one run, with their noise.

A bound is claimed only where the whole 95 % interval is under it. Needs root."""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import blocks, latency  # noqa: E402
from bench.load import Load  # noqa: E402
from bench.observers import bpftrace_observer, moeprobe_observer  # noqa: E402
from lib.sites import ROUTER, Site, sites_of  # noqa: E402
from lib.library import with_site_name  # noqa: E402
from lib.models import EXACT, model  # noqa: E402
from lib.moeprobe import recording, wait_until  # noqa: E402
from lib.recording import read  # noqa: E402
from lib.server import Options, Server, running  # noqa: E402
from models.make_model import Shape  # noqa: E402

TINY = EXACT["olmoe"]
# About 12 ms a token on one thread of the machine that this was written on.
LARGE = Shape("olmoe", layers=16, experts=64, k=8, width=512, heads=8, kv_heads=8, ffn=256,
              quantisation="q8_0")
BOUND = 1.0  # percent, on the large model


def say(name: str, text: str) -> None:
    print(f"{name:<34}{text}", flush=True)


def hits(server: Server, shape: Shape, directory: Path) -> float:
    """Hits a step, against layers x threads + 4, in decode with one client."""
    file = directory / "hits.moeprobe"
    with Load(server), recording(server.pid, file) as capture:
        wait_until(capture.attached, "not attached")
        time.sleep(4)
        capture.stop()
    recorded = read(file)
    total = sum(cost.fields["hits"] for cost in recorded.of("cost"))
    steps = recorded.one("end").fields["steps"]
    bound = shape.layers * server.options.threads + 4
    a_step = float(total / steps)
    say(f"hits a step, {server.options.threads} threads", f"{a_step:.2f} of at most {bound} "
        f"({total} hits, {steps} steps): {'ok' if a_step <= bound else 'TOO MANY'}")
    return a_step


def show_sites(sites: list[Site]) -> None:
    for site in sites:
        say(f"site {site.symbol[:28]}", f"+{site.offset} {site.instruction}: {site.kind}, "
            f"predicted {site.predicted_ns:.0f} ns a hit")


def overhead(name: str, load: Load, observer: blocks.Observer, pairs: int,
             seconds: float) -> list[tuple[blocks.Block, blocks.Block]]:
    begin = time.monotonic()
    measured = blocks.alternate(load, observer, pairs, seconds)
    token = 1e3 * sum(detached.wall for detached, _ in measured) / len(measured)
    wall, cpu = blocks.wall(measured), blocks.cpu(measured)
    say(f"overhead {name}", f"wall {wall.text()}, processor {cpu.text()}; {2 * len(measured)} "
        f"blocks of {seconds:g} s, {token:.2f} ms a token, {time.monotonic() - begin:.0f} s")
    say("", f"wall: {wall.claim(BOUND)}; processor: {cpu.claim(BOUND)}")
    return measured


def one_model(name: str, shape: Shape, library: Path, count: int, few: int, seconds: float,
              directory: Path) -> None:
    """Hits, cost of a hit, overhead; and bpftrace's in a second server: the name of a place that
    it needs would make our planner believe that the function ends there."""
    with running(model(shape), directory / f"{name}.log", Options(threads=1)) as server:
        sites = sites_of(server.pid)
        show_sites(sites)
        a_step = hits(server, shape, directory)
        with Load(server) as load:
            wait_until(lambda: len(load.times) > 20, "the server does not generate", 60)
            ours = overhead(f"{name}: moeprobe", load,
                            lambda: moeprobe_observer(server, directory), count, seconds)
    named = Options(threads=1, library=str(library))
    with running(model(shape), directory / f"{name}.log", named) as server, Load(server) as load:
        wait_until(lambda: len(load.times) > 20, "the server does not generate", 60)
        theirs = overhead(f"{name}: bpftrace", load,
                          lambda: bpftrace_observer(server, "moeprobe_site", shape.k),
                          few, seconds)
    mine, other = blocks.extra_cpu_ns(ours), blocks.extra_cpu_ns(theirs)
    router = next(site for site in sites if site.symbol == ROUTER)
    ratio = mine / a_step / router.predicted_ns
    say("time a hit", f"measured {mine / a_step:.0f} ns, predicted {router.predicted_ns:.0f} ns: "
        f"factor {ratio:.2f} ({'within' if 0.5 <= ratio <= 2 else 'NOT within'} 2)")
    say("extra processor time a token", f"moeprobe {mine / 1e3:.1f} us, bpftrace "
        f"{other / 1e3:.1f} us: {mine / other:.2f} of it"
        f" ({'at most' if mine <= other / 2 else 'NOT at most'} half)")


def busy(directory: Path, rounds: int) -> None:
    """Latencies, memory and loss on a server that does what it can."""
    with running(model(TINY), directory / "busy.log", Options()) as server, \
            Load(server, clients=8, generate=200) as load:
        wait_until(lambda: len(load.times) > 100, "the server does not generate", 60)
        first = [latency.first_route(server.pid) for _ in range(rounds)]
        say("first record after the command", latency.spread(first, 0.5))
        ends = [latency.detach(server.pid, directory) for _ in range(rounds)]
        say("detach", latency.spread(ends, 0.2))
        result = latency.full_speed(server.pid, directory, 10)
        say("full speed", f"{result.decisions / result.seconds:.0f} decisions/s, lost "
            f"{result.lost}: {'ok' if not result.lost else 'LOSS'}")
        say("collector, resident", f"at most {result.resident / 2 ** 20:.1f} MiB, reader and "
            f"broker together: {'ok' if result.resident <= 64 * 2 ** 20 else 'TOO MUCH'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter blocks")
    parser.add_argument("--part", choices=("busy", "tiny", "large"), help="only this one")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: attaching to a process needs root: sudo make bench")
    pairs, few, seconds = (6, 3, 0.5) if options.quick else (32, 10, 1.0)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        library = directory / "library"
        with running(model(TINY), directory / "sites.log") as server:
            site = next(site for site in sites_of(server.pid) if site.symbol == ROUTER)
        with_site_name(library, site.symbol, site.offset, "moeprobe_site")
        parts: dict[str, Callable[[], None]] = {
            "busy": lambda: busy(directory, 3 if options.quick else 10),
            "tiny": lambda: one_model("tiny", TINY, library, pairs, few, seconds, directory),
            "large": lambda: one_model("large", LARGE, library, pairs, few, seconds,
                                       directory)}
        for part, perform in parts.items():
            if options.part in (None, part):
                print(f"-- {part}", flush=True)
                perform()


if __name__ == "__main__":
    main()
