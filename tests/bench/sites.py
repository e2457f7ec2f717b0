# SPDX-License-Identifier: BSD-2-Clause
"""Where moeprobe puts its probes, as `moeprobe doctor PID --json` says."""
from __future__ import annotations

import json
import re
from dataclasses import dataclass

from lib.moeprobe import moeprobe

ROUTER = "ggml_compute_forward_mul"
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
