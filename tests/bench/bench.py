# SPDX-License-Identifier: BSD-2-Clause
"""What moeprobe costs and how fast it is, as ratios within one run, with their noise.

A bound on the overhead is claimed only where the whole 95 % interval is under it. Ends with 1 if a
promise is not kept. Needs root, and a machine that has nothing else to do."""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import blocks, headers, latency, pytorch  # noqa: E402
from bench.figures import broken, overhead, promise, say  # noqa: E402
from bench.load import Load  # noqa: E402
from bench.observers import bpftrace_observer, hits_alone, moeprobe_observer  # noqa: E402
from lib.library import with_site_name  # noqa: E402
from lib.models import EXACT, model  # noqa: E402
from lib.moeprobe import recording, wait_until  # noqa: E402
from lib.recording import read  # noqa: E402
from lib.server import Options, Server, running  # noqa: E402
from lib.sites import ROUTER, ROWS, Site, places_of, sites_of  # noqa: E402
from models.make_model import Shape  # noqa: E402

TINY = EXACT["olmoe"]
# About 9 ms a token on one thread of the machine that this was written on.
LARGE = Shape("olmoe", layers=16, experts=64, k=8, width=512, heads=8, kv_heads=8, ffn=256,
              quantisation="q8_0")
MEBIBYTE = 2 ** 20
EACH_STEP = (ROUTER, ROWS)
UNKNOWN_NS = 2 ** 64 - 1


def hits(name: str, server: Server, shape: Shape, directory: Path) -> None:
    """Hits a step, against layers x threads + 4, in decode with one client."""
    file = directory / "hits.moeprobe"
    with Load(server, generate=400), recording(server.pid, file) as capture:
        wait_until(capture.attached, "not attached")
        time.sleep(4)
        capture.stop()
    recorded = read(file)
    total = sum(cost.fields["hits"] for cost in recorded.of("cost"))
    steps = recorded.one("end").fields["steps"]
    bound = shape.layers * server.options.threads + 4
    a_step = float(total / steps)
    promise(f"{name}: hits a step", f"{a_step:.2f} of at most {bound} with "
            f"{server.options.threads} thread ({total} hits, {steps} steps)", a_step <= bound)


def show_sites(sites: list[Site]) -> None:
    for site in sites:
        say(f"  {site.symbol[:31]}", f"+{site.offset} {site.instruction}: {site.kind}, "
            f"predicted {site.predicted_ns:.0f} ns a hit")


def hit_time(name: str, server: Server, load: Load, alone: blocks.Interval,
             directory: Path) -> None:
    """What the hits of a token take in the thread that computes, against what moeprobe says that they
    do: hits of each place x calibrated time of one."""
    file = directory / "time.moeprobe"
    with recording(server.pid, file) as capture:
        wait_until(capture.attached, "not attached")
        time.sleep(2)
        begin = load.mark()
        time.sleep(6)
        end = load.mark()
        capture.stop()
    costs = [cost.fields for cost in read(file).of("cost") if cost.fields["hit_ns"] != UNKNOWN_NS]
    share = sum(cost["hit_ns"] for cost in costs) / sum(cost["interval_ns"] for cost in costs)
    said = 1e6 * share * (end.time - begin.time) / (end.tokens - begin.tokens)
    low, factor, high = (value / said for value in (alone.low, alone.middle, alone.high))
    promise(f"{name}: time of a token's hits", f"measured {alone.middle:.1f} us [{alone.low:.1f}, "
            f"{alone.high:.1f}], predicted {said:.1f} us: factor {factor:.2f} [{low:.2f}, "
            f"{high:.2f}] (0.5 to 2)", low <= 2 and high >= 0.5 and 0.5 <= factor <= 2)


def share(ours: blocks.Interval, theirs: blocks.Interval) -> str:
    """A ratio of two times, with the least and most that both intervals allow."""
    low, high = (f"{a / b:.2f}" if b > 0 else "?" for a, b in
                 ((ours.low, theirs.high), (ours.high, theirs.low)))
    return f"{ours.middle / theirs.middle:.2f} [{low}, {high}]"


def named_library(directory: Path) -> Path:
    """The engine's library with a name at our place."""
    library = directory / "library"
    if not library.exists():
        with running(model(TINY), directory / "sites.log") as server:
            site = next(site for site in sites_of(server.pid) if site.symbol == ROUTER)
        with_site_name(library, site.symbol, site.offset, "moeprobe_site")
    return library


def one_model(name: str, shape: Shape, pairs: int, few: int, seconds: float,
              directory: Path) -> None:
    """Hits, cost of a hit, overhead; beside it a bpftrace script that prints the same ids, as one
    would write it (at the function's entry), and at our place in a second server, whose library
    has a name there."""
    one = Options(threads=1)
    with running(model(shape), directory / f"{name}.log", one) as server:
        sites = sites_of(server.pid)
        say(f"{name}: places", "")
        show_sites(sites)
        promise(f"{name}: every step's places", "on instructions that the kernel emulates",
                all(site.kind == "emulated" for site in sites if site.symbol in EACH_STEP))
        hits(name, server, shape, directory)
        with Load(server) as load:
            ours = overhead(f"{name}: moeprobe", load,
                            lambda: moeprobe_observer(server, directory), pairs, seconds)
            theirs = overhead(f"{name}: bpftrace", load,
                              lambda: bpftrace_observer(server, ROUTER, shape.k), few, seconds)
            if shape is TINY:  # a hit is lost in the noise of a longer token
                alone = overhead(f"{name}: hits alone", load,
                                 lambda: hits_alone(server, directory), pairs, seconds)
                hit_time(name, server, load, alone, directory)
    named = Options(threads=1, library=str(named_library(directory)))
    with running(model(shape), directory / f"{name}.log", named) as server, Load(server) as load:
        there = overhead(f"{name}: bpftrace at our place", load,
                         lambda: bpftrace_observer(server, "moeprobe_site", shape.k), few,
                         seconds)
    if shape is not TINY:
        return  # the noise of so long a token is larger than all of these
    promise(f"{name}: of such a script's cost", share(ours, theirs) + " (at most half)",
            ours.middle <= theirs.middle / 2)
    say(f"{name}: of one at our place", share(ours, there) + " (with more in it: weights, rows, "
        "whose they are)")


def busy(directory: Path, rounds: int) -> None:
    """Latencies, memory and loss on a server that does what it can."""
    with running(model(TINY), directory / "busy.log", Options()) as server, \
            Load(server, clients=8, generate=200) as load:
        wait_until(lambda: len(load.times) > 100, "the server does not generate", 60)
        first = [latency.first_route(server.pid) for _ in range(rounds)]
        promise("busy: first record", latency.spread(first, 0.5), max(first) < 0.5)
        dips = [latency.attach_dip(server.pid, load) for _ in range(rounds)]
        say("busy: tokens while attaching", f"{100 * sorted(dips)[rounds // 2]:+.0f} % in the first "
            f"{latency.DIP_SECONDS:g} s, median of {rounds}")
        places = places_of(server.pid)
        ends = [latency.detach(server.pid, directory, places) for _ in range(rounds)]
        for what, number in (("target free", 0), ("command ended", 1)):
            times = [end[number] for end in ends]
            promise(f"busy: Ctrl-C until {what}", latency.spread(times, 0.2), max(times) < 0.2)
        result = latency.full_speed(server.pid, directory, 10)
        promise("busy: loss at full speed", f"{result.lost} at "
                f"{result.decisions / result.seconds:.0f} decisions/s", not result.lost)
        promise("busy: collector resident", f"at most {result.resident / MEBIBYTE:.1f} MiB, "
                "reader and broker together (bound 64)", result.resident <= 64 * MEBIBYTE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter blocks")
    parser.add_argument("--part", choices=("busy", "tiny", "large", "pytorch", "headers"),
                        help="only this one")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: attaching to a process needs root: sudo make bench")
    pairs, few, seconds = (6, 3, 0.5) if options.quick else (50, 30, 1.0)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        parts: dict[str, Callable[[], None]] = {
            "busy": lambda: busy(directory, 3 if options.quick else 20),
            "tiny": lambda: one_model("tiny", TINY, pairs, few, seconds, directory),
            "large": lambda: one_model("large", LARGE, pairs, few, seconds, directory),
            "pytorch": lambda: pytorch.part(directory, options.quick),
            "headers": lambda: headers.part(directory, options.quick)}
        for part, perform in parts.items():
            if options.part in (None, part):
                perform()
    print(f"bench: {len(broken)} promises broken" + "".join(f"\n  {one}" for one in broken))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
