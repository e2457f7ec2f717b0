# SPDX-License-Identifier: BSD-2-Clause
"""Compares a recording with what the clients were told and with the oracle. Every difference is
an entry of `faults`; nothing is forgiven but near ties under a stated limit, which are counted."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from lib.client import Answer
from lib.oracle import Choices, Layer
from lib.recording import DECODE, PREFILL, UNKNOWN, Picture, Request


Layers = Sequence[Layer] | Mapping[int, Layer]  # by the model's own layer number


class Truth(Protocol):
    """Who knows what was to be chosen: an oracle, or what the server itself tells."""

    layers: int

    def forward(self, tokens: list[int],
                forced: dict[int, Choices] | None = None) -> tuple[Layers, Any]:
        """The routing of each layer for each of @tokens, and anything."""


@dataclass(frozen=True)
class Rules:
    """How servers differ."""

    last_layer_outputs: bool = True  # only rows with logits reach the last layer
    # A cached prefix of which no client is told is of so many tokens or a multiple, and nobody sees
    # the tokens in it; 0: there is none; None: such clients are not compared.
    page: int | None = None
    # Gate weights are scores as they were chosen by, which are compared after they are normalised.
    raw: bool = False
    # How requests may end. Where nothing tells an end, one that nothing follows has none.
    endings: tuple[int, ...] = (1,)
    preempts: bool = False  # requests give up their cache, and compute it again from a page on


@dataclass
class Verdict:
    """What was compared and what was found."""

    requests: int = 0
    unfinished: int = 0      # cancelled by their clients
    slots_known: int = 0
    decisions: int = 0       # one token, one layer
    last_layer: int = 0      # of these in the last layer
    set_ties: list[float] = field(default_factory=list)    # gaps of forgiven differences
    order_ties: list[float] = field(default_factory=list)
    weight_difference: float = 0.0
    faults: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        self.faults.append(text if len(text) < 400 else text[:400] + "...")

    def check(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.fault(f"{what}: recorded {found}, not {wanted}")

    def line(self, name: str) -> str:
        ties = self.set_ties + self.order_ties
        largest = f", largest gap {max(ties):.1e}" if ties else ""
        return (f"{name}: {self.requests} requests ({self.unfinished} cancelled, slot known of "
                f"{self.slots_known}), {self.decisions} decisions ({self.last_layer} in the last "
                f"layer), {len(self.faults)} faults, near ties {len(self.set_ties)} of the set "
                f"and {len(self.order_ties)} of the order{largest}, largest weight difference "
                f"{self.weight_difference:.1e}")


def match(answers: list[Answer], picture: Picture,
          verdict: Verdict) -> list[tuple[Answer, Request]]:
    """Pairs by the client's own id; where the client got none, by the whole prompt."""
    by_id: dict[str, list[Request]] = {}
    by_prompt: dict[tuple[int, ...], list[Request]] = {}
    for request in picture.requests.values():
        if request.client_id:
            by_id.setdefault(request.client_id, []).append(request)
        prompt = tuple(int(token) for token in request.begin.columns["tokens"])
        by_prompt.setdefault(prompt, []).append(request)
    pairs: list[tuple[Answer, Request]] = []
    for answer in answers:
        if answer.error:
            verdict.fault(f"client of {answer.ask}: {answer.error}")
            continue
        if answer.client_id:
            found = by_id.get(answer.client_id, [])
        else:
            found = by_prompt.get(tuple(answer.prompt), [])
        if len(found) > 1:  # a batch: several prompts under one id
            found = [request for request in found
                     if [int(t) for t in request.begin.columns["tokens"]] == answer.prompt]
        if len(found) != 1:
            verdict.fault(f"{len(found)} requests in the recording for {answer.client_id} "
                          f"{answer.ask}")
            continue
        pairs.append((answer, found[0]))
    for number, uses in Counter(id(request) for _, request in pairs).items():
        if uses > 1:
            verdict.fault(f"request {number} was matched {uses} times")
    return pairs


def prompt_unseen(request: Request, rules: Rules) -> bool:
    """Its first tokens came from shared pages: which they are can only be seen at the client."""
    return bool(rules.page and request.begin.fields["cached"]
                and not len(request.begin.columns["tokens"]))


def tokens_of(answer: Answer, request: Request, rules: Rules) -> list[int]:
    """The request's tokens as far as they were computed."""
    if not prompt_unseen(request, rules):
        return request.tokens
    return answer.prompt[:request.begin.fields["cached"]] + request.token


def check_identity(answer: Answer, request: Request, rules: Rules, verdict: Verdict) -> None:
    begin, name = request.begin.fields, f"request {request.begin.fields['request']}"
    if answer.slot is not None:
        verdict.slots_known += 1
        verdict.check(f"{name}: slot", begin["slot"], answer.slot)
    if answer.task is not None:
        verdict.check(f"{name}: task", begin["task"], answer.task)
    if answer.cached is not None:
        verdict.check(f"{name}: cached prefix", begin["cached"], answer.cached)
    elif rules.page is not None:
        cached = begin["cached"]
        if cached and (not rules.page or cached % rules.page or cached >= len(answer.prompt)):
            verdict.fault(f"{name}: cached prefix of {cached} tokens")
    cut = rules.page and begin["prompt"] == UNKNOWN  # it may go on in a later step: said at its end
    if cut and answer.finished and request.end:
        verdict.check(f"{name}: prompt length", request.end.fields["prompt"], len(answer.prompt))
    elif not cut:
        verdict.check(f"{name}: prompt length", begin["prompt"], len(answer.prompt))
    if not cut and not prompt_unseen(request, rules):
        verdict.check(f"{name}: prompt", [int(t) for t in request.begin.columns["tokens"]],
                      answer.prompt)
    verdict.check(f"{name}: before attach", request.before_attach, False)
    if request.end is None:
        verdict.fault(f"{name}: has no end")
        return
    if request.end.fields["ending"] not in rules.endings and (
            answer.finished or rules.last_layer_outputs):
        verdict.fault(f"{name}: ending {request.end.fields['ending']}, not of {rules.endings}")
    verdict.check(f"{name}: rows at its end", request.end.fields["rows"], request.rows)


def pieces(request: Request) -> list[list[int]]:
    """Its positions, in pieces without a gap: it was preempted between them."""
    made: list[list[int]] = []
    for position in request.position:
        if not made or position != made[-1][-1] + 1:
            made.append([])
        made[-1].append(position)
    return made


def check_preempted(answer: Answer, request: Request, rules: Rules, verdict: Verdict) -> None:
    """Rows of a request that may have been preempted: each piece goes over what was known then."""
    name = f"request {request.begin.fields['request']}"
    known, phases, outputs = len(answer.prompt), list[int](), list[bool]()
    for number, piece in enumerate(pieces(request)):
        first = request.begin.fields["cached"] if number == 0 else piece[0]
        if piece[0] != first or first % (rules.page or 1) or first >= known:
            verdict.fault(f"{name}: a piece begins at {piece[0]}")
        phases += [PREFILL if position < known else DECODE for position in piece]
        outputs += [position >= known - 1 for position in piece]
        known = max(known, piece[-1] + 2)  # and what its last row gave
    verdict.check(f"{name}: phases", request.phase, phases)
    verdict.check(f"{name}: output rows", request.output, outputs)
    last = len(answer.prompt) + len(answer.generated) - 2
    computed = set(request.position)
    if answer.finished and max(computed) != last or computed != set(
            range(request.begin.fields["cached"], max(computed) + 1)):
        verdict.fault(f"{name}: rows up to {max(computed)}, with gaps or not up to {last}")


def check_rows(answer: Answer, request: Request, rules: Rules, verdict: Verdict) -> None:
    name = f"request {request.begin.fields['request']}"
    cached, prompt = request.begin.fields["cached"], len(answer.prompt)
    rows = answer.rows if answer.cached is not None else answer.rows - cached
    known = answer.tokens
    for position, token in zip(request.position, request.token, strict=True):
        if position < len(known) and token != known[position]:
            verdict.fault(f"{name}: token {token} at {position}, not {known[position]}")
    if rules.preempts:
        check_preempted(answer, request, rules, verdict)
        return
    if answer.finished:
        verdict.check(f"{name}: rows", request.rows, rows)
    elif request.rows < rows:
        verdict.fault(f"{name}: {request.rows} rows, its client saw {rows}")
    verdict.check(f"{name}: positions", request.position,
                  list(range(cached, cached + request.rows)))
    verdict.check(f"{name}: phases", request.phase,
                  [PREFILL if p < prompt else DECODE for p in request.position])
    verdict.check(f"{name}: output rows", request.output,
                  [p >= prompt - 1 for p in request.position])


def check_coverage(request: Request, layers: list[int], rules: Rules, verdict: Verdict) -> None:
    """Exact, from the rows themselves; nothing may be missing but what was never computed."""
    name = f"request {request.begin.fields['request']}"
    cached = request.begin.fields["cached"]
    outputs = [index for index, output in enumerate(request.output) if output]
    verdict.check(f"{name}: layers covered", sorted(c.fields["layer"] for c in request.coverage),
                  layers)
    partial = layers[-1] if rules.last_layer_outputs else None
    for layer in layers:
        wanted = outputs if layer == partial else list(range(request.rows))
        verdict.check(f"{name}: rows routed in layer {layer}",
                      sorted(request.routes.get(layer, {})), wanted)
    for record in request.coverage:
        never = request.rows - len(outputs) if record.fields["layer"] == partial else 0
        wanted_fields = {"expected": cached + request.rows, "seen": request.rows - never,
                         "cached": cached, "not_computed": never, "lost": 0, "invalid": 0,
                         "before_attach": 0, "not_routed": 0, "after_detach": 0}
        found = {key: record.fields[key] for key in wanted_fields}
        verdict.check(f"{name}: coverage of layer {record.fields['layer']}", found,
                      wanted_fields)


class Judge:
    """Compares routing with the oracle; remembers near ties that fell the other way, because a
    prefix that another request takes from the cache carries them on."""

    def __init__(self, oracle: Truth, tie_limit: float, order_limit: float,
                 weight_limit: float, raw: bool = False) -> None:
        self.raw = raw
        self.oracle = oracle
        self.tie_limit, self.order_limit = tie_limit, order_limit
        self.weight_limit = weight_limit
        # layer, tokens up to the position -> the choice
        self.ties: dict[tuple[int, tuple[int, ...]], np.ndarray] = {}

    def forced(self, tokens: list[int], cached: int) -> dict[int, Choices]:
        """Choices known from earlier requests in the prefix that came from the cache."""
        forced: dict[int, Choices] = {}
        for (layer, prefix), ids in self.ties.items():
            if len(prefix) <= cached and tuple(tokens[:len(prefix)]) == prefix:
                forced.setdefault(layer, {})[len(prefix) - 1] = ids
        return forced

    def find_tie(self, request: Request, layers: Layers, forced: dict[int, Choices],
                 verdict: Verdict) -> bool:
        """Add the first layer's near ties that fell the other way; True if there are any."""
        for number in sorted(request.routes):
            chosen, found = layers[number], False
            for index, (ids, _) in request.routes[number].items():
                position = request.position[index]
                if list(ids) == list(chosen.ids[position]):
                    continue
                same_set = set(ids) == set(chosen.ids[position])
                gap = float((chosen.order_gap if same_set else chosen.gap)[position])
                if gap < (self.order_limit if same_set else self.tie_limit) and \
                        position not in forced.get(number, {}):
                    (verdict.order_ties if same_set else verdict.set_ties).append(gap)
                    forced.setdefault(number, {})[position] = np.asarray(ids)
                    found = True
            if found:
                return True
        return False

    def is_order_tie(self, ids: Any, wanted: Any, position: int) -> bool:
        """The same experts in another order, of weights that are as good as equal: find_tie()
        counted it, and a reference that sorts by its own weights keeps its own order."""
        return (set(ids) == set(wanted.ids[position])
                and float(wanted.order_gap[position]) < self.order_limit)

    def routing(self, request: Request, tokens: list[int], verdict: Verdict) -> None:
        if max(request.position, default=-1) >= len(tokens):
            verdict.fault(f"request {request.begin.fields['request']}: rows are missing before "
                          f"position {max(request.position)}: routing cannot be compared")
            return
        forced = self.forced(tokens, request.begin.fields["cached"])
        layers: Layers
        layers, _ = self.oracle.forward(tokens, forced)
        while self.find_tie(request, layers, forced, verdict):
            layers, _ = self.oracle.forward(tokens, forced)
        for number, choices in forced.items():
            for position, ids in choices.items():
                self.ties[number, tuple(tokens[:position + 1])] = ids
        name = f"request {request.begin.fields['request']}"
        for number, entries in request.routes.items():
            verdict.decisions += len(entries)
            verdict.last_layer += len(entries) if number == self.oracle.layers - 1 else 0
            for index, (ids, weights) in entries.items():
                position = request.position[index]
                wanted = layers[number]
                if list(ids) != list(wanted.ids[position]) and not self.is_order_tie(
                        ids, wanted, position):
                    verdict.fault(
                        f"{name}: layer {number} position {position}: experts {list(ids)}, not "
                        f"{list(wanted.ids[position])} (gap {wanted.gap[position]:.1e}, of the "
                        f"order {wanted.order_gap[position]:.1e})")
                    continue
                if self.raw:
                    weights = weights / weights.sum()
                difference = float(np.abs(weights - wanted.weights[position]).max())
                verdict.weight_difference = max(verdict.weight_difference, difference)
                if difference > self.weight_limit:
                    verdict.fault(f"{name}: layer {number} position {position}: weights differ "
                                  f"by {difference:.1e}")


def queued_before_attach(picture: Picture) -> set[int]:
    """Requests that were taken up before our eyes but queued earlier, which is where the client's
    id is read: the server numbers tasks as it queues them."""
    first = min((r.begin.fields["task"] for r in picture.requests.values()
                 if r.begin.columns["client_id"]), default=UNKNOWN)
    return {id(r) for r in picture.requests.values()
            if not r.begin.columns["client_id"] and r.begin.fields["task"] < first}


def judge(picture: Picture, answers: list[Answer], oracle: Truth, *, tie_limit: float = 1e-6,
          order_limit: float = 1e-6, weight_limit: float = 1e-5, rules: Rules = Rules(),
          optional: list[Answer] | None = None) -> Verdict:
    """Everything of an exact recording. @optional: answers that may be missing from it, because
    they were made while the probes were placed; if they are there, they must be right."""
    verdict = Verdict()
    seen = [r for r in picture.requests.values() if not r.before_attach]
    known = {request.client_id for request in seen}
    prompts = {tuple(int(token) for token in request.begin.columns["tokens"]) for request in seen}
    present = [a for a in optional or []
               if (a.client_id in known if a.client_id else tuple(a.prompt) in prompts)]
    pairs = match(answers + present, picture, verdict)
    matched = {id(request) for _, request in pairs}
    queued = queued_before_attach(picture)
    # Decisions of requests that began before the attach: not compared.
    before = picture.early_decisions if optional else 0
    for request in picture.requests.values():
        if optional and (request.before_attach or id(request) in queued):
            before += sum(len(entries) for entries in request.routes.values())
        elif id(request) not in matched:
            verdict.fault(f"request {request.begin.fields['request']} is nobody's")
    court = Judge(oracle, tie_limit, order_limit, weight_limit, rules.raw)
    for answer, request in pairs:
        verdict.requests += 1
        verdict.unfinished += answer.cancelled
        check_identity(answer, request, rules, verdict)
        if request.begin.fields["cached"] == UNKNOWN:
            continue
        check_rows(answer, request, rules, verdict)
        check_coverage(request, picture.layers, rules, verdict)
        court.routing(request, tokens_of(answer, request, rules), verdict)
    verdict.check("decisions in the recording", picture.decisions,
                  verdict.decisions + before + picture.padding)
    verdict.check("rows of no request", picture.unknown_rows, 0)
    verdict.check("lost", picture.recording.lost, 0)
    return verdict
