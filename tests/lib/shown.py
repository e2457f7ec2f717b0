# SPDX-License-Identifier: BSD-2-Clause
"""What an exactness test showed of an engine, from its recording: each ability, how it is known and
in how many cases. Written when the test has ended, for docs/engines.md."""
from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.abilities import EXACT, INFERRED, NOT_VISIBLE
from lib.client import Answer
from lib.moeprobe import BUILD
from lib.recording import INFERRED as ROUTE_INFERRED
from lib.recording import RAW, UNKNOWN, Picture, Record, Request

RESULTS = BUILD / "results"
FAILED = "failed"  # instead of an engine
RELEASED = 1  # ending: the server said so

States = dict[str, tuple[str, int]]  # ability -> how it is known, in how many cases


def certainty(inferred: bool) -> str:
    return INFERRED if inferred else EXACT


def of_routing(picture: Picture) -> States:
    """Ids and weights by what the routes say of themselves; both were compared by the test."""
    routes = picture.recording.of("route")
    flags = [route.flags for route in routes]
    decisions = sum(int(route.fields["rows"]) for route in routes)
    raw = any(flag & RAW for flag in flags)
    rows = sum(request.rows for request in picture.requests.values())
    tokens = sum(token >= 0 for request in picture.requests.values() for token in request.token)
    return {"expert ids": (certainty(any(flag & ROUTE_INFERRED for flag in flags)), decisions),
            "gate weights": (NOT_VISIBLE if raw else EXACT, decisions),
            "tokens": (EXACT, tokens), "positions": (EXACT, rows)}


def names_of(picture: Picture) -> dict[int, Record]:
    """Request -> the last record that gives it its client's id."""
    return {record.fields["request"]: record for record in picture.recording.of("request_info")
            if record.columns["client_id"]}


def is_released(request: Request) -> bool:
    return request.end is not None and request.end.fields["ending"] == RELEASED \
        and not request.end.fields["certainty"]


def of_requests(picture: Picture, answers: list[Answer]) -> States:
    """Of those that a client saw to the end: one that is cancelled has no last word."""
    given = {answer.client_id for answer in answers if answer.finished and answer.client_id}
    named = names_of(picture)
    requests = {number: request for number, request in picture.requests.items()
                if request.client_id in given and not request.before_attach}
    inferred = any(named[number].fields["certainty"] for number in requests if number in named)
    told = requests or {number: request for number, request in picture.requests.items()
                        if not request.before_attach}
    surely = all(is_released(request) for request in told.values()) and bool(requests)
    cached = sum(request.begin.fields["cached"] not in (0, UNKNOWN)
                 for request in picture.requests.values())
    states = {"requests": (certainty(inferred) if requests else NOT_VISIBLE, len(requests)),
              "begin and end": (certainty(not surely), len(told))}
    return states | ({"cached prefix": (EXACT, cached)} if cached else {})


def of_processes(picture: Picture) -> States:
    processes = len({record.fields["process"] for record in picture.recording.of("process")})
    return {"several processes": (EXACT, processes)} if processes > 1 else {}


def shown(picture: Picture, answers: list[Answer]) -> States:
    """All that a recording shows which a judge found right."""
    return of_routing(picture) | of_requests(picture, answers) | of_processes(picture)


@dataclass
class Shows:
    """Call it with what was found right; kept once the test has ended."""

    test: str  # node id
    noted: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, engine: str, picture: Picture, answers: list[Answer]) -> None:
        self.note(engine, {ability: {"state": state, "count": count} for ability, (state, count)
                           in shown(picture, answers).items()})

    def note(self, engine: str, what: dict[str, Any]) -> None:
        self.noted.append({"test": self.test, "engine": engine, "date": time.strftime("%Y-%m-%d"),
                           "shown": what})

    @property
    def file(self) -> Path:
        return RESULTS / (re.sub(r"[^A-Za-z0-9_.-]+", "-", self.test).strip("-") + ".json")

    def keep(self, outcome: str) -> None:
        """A test that failed showed nothing of any engine, which takes back what it showed before."""
        if outcome == "failed":
            self.noted.clear()
            self.note(FAILED, {})
        if self.noted and outcome in ("passed", "failed"):
            RESULTS.mkdir(parents=True, exist_ok=True)
            self.file.write_text(json.dumps(self.noted, indent=1) + "\n")
