# SPDX-License-Identifier: BSD-2-Clause
"""Where moeprobe puts its probes, as `moeprobe doctor PID --json` says, and whether a breakpoint
is there now, as the target's memory says."""
from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from lib.library import address_of
from lib.moeprobe import moeprobe

ROUTER = "ggml_compute_forward_mul"
ROWS = "_ZN16llm_graph_result10set_inputsEPK12llama_ubatch"
VALUE = re.compile(r"(?P<symbol>\S+)\+(?P<offset>\d+): (?P<instruction>.*) "
                   r"\((?P<kind>[^,()]+), (?P<microseconds>[0-9.]+) us a hit\)$")


@dataclass(frozen=True)
class Site:
    """A place, the class of its instruction, and the predicted thread time of a hit."""

    symbol: str
    offset: int
    instruction: str
    kind: str
    predicted_ns: float


def sites_of(pid: int) -> list[Site]:
    done = moeprobe("doctor", pid, "--json")
    if done.code:
        raise RuntimeError(f"moeprobe doctor {pid}: {done.err}")
    sites = []
    for finding in json.loads(done.out)["findings"]:
        if finding["area"] != "site" or "+" not in finding["value"]:
            continue
        found = VALUE.match(finding["value"])
        if found is None:
            raise RuntimeError(f"not understood: {finding['value']}")
        sites.append(Site(found["symbol"], int(found["offset"]), found["instruction"],
                          found["kind"], 1000 * float(found["microseconds"])))
    return sites


def engine_library(pid: int) -> Path:
    """The file of the engine that @pid has mapped."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if "xllamacpp" in line and line.endswith(".so"):
            return Path(line.split()[-1])
    raise LookupError("the engine's library is not mapped")


def places_of(pid: int) -> list[int]:
    """The sites' addresses in the memory of @pid."""
    library = engine_library(pid)
    base = min(int(line.split("-")[0], 16) for line in
               Path(f"/proc/{pid}/maps").read_text().splitlines() if line.endswith(str(library)))
    return [base + address_of(library, site.symbol)[0] + site.offset for site in sites_of(pid)]


def code_at(pid: int, places: list[int]) -> bytes:
    """The byte at each place: 0xcc is a breakpoint."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        content = b""
        for place in places:
            memory.seek(place)
            content += memory.read(1)
    return content
