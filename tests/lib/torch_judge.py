# SPDX-License-Identifier: BSD-2-Clause
"""The judge's rules for PyTorch servers, and what only they have: prefixes shared by pages."""
from __future__ import annotations

from lib.client import Answer
from lib.judge import Rules, Truth, Verdict, judge
from lib.recording import UNKNOWN, Picture


def check_prefixes(picture: Picture, verdict: Verdict) -> None:
    """A prefix from the cache is one that another request had computed, or had from the cache."""
    for number, request in picture.requests.items():
        cached = request.begin.fields["cached"]
        if cached in (0, UNKNOWN) or request.before_attach:
            continue
        prefix = request.tokens[:cached]
        if not any(other.tokens[:cached] == prefix for other in picture.requests.values()
                   if other is not request):
            verdict.fault(f"request {number}: nobody computed its cached prefix of {cached} tokens")


def judge_torch(picture: Picture, answers: list[Answer], truth: Truth, *, page: int = 0,
                optional: list[Answer] | None = None) -> Verdict:
    """Everything of an exact recording. @page: tokens of a page where pages are shared."""
    verdict = judge(picture, answers, truth, optional=optional,
                    rules=Rules(last_layer_outputs=False, page=page))
    check_prefixes(picture, verdict)
    return verdict
