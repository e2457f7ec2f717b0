# SPDX-License-Identifier: BSD-2-Clause
"""The judge's rules for PyTorch servers, and what only they have: prefixes shared by pages."""
from __future__ import annotations

from lib.client import Answer
from lib.judge import Rules, Truth, Verdict, judge
from lib.recording import UNKNOWN, Picture


def check_prefixes(picture: Picture, answers: list[Answer], verdict: Verdict) -> None:
    """A prefix from the cache is one that another request had computed, or had from the cache."""
    by_id = {answer.client_id: answer for answer in answers}
    for number, request in picture.requests.items():
        cached = request.begin.fields["cached"]
        answer = by_id.get(request.client_id)
        if answer and cached not in (0, UNKNOWN) and not any(
                other.tokens[:cached] == answer.prompt[:cached] for other in answers
                if other is not answer):
            verdict.fault(f"request {number}: nobody computed its cached prefix of {cached} tokens")


def judge_torch(picture: Picture, answers: list[Answer], truth: Truth, *, page: int = 0,
                endings: tuple[int, ...] = (1,), raw: bool = False,
                optional: list[Answer] | None = None) -> Verdict:
    """Everything of an exact recording. @page: tokens of a page where pages are shared."""
    verdict = judge(picture, answers, truth, optional=optional,
                    rules=Rules(last_layer_outputs=False, page=page, endings=endings, raw=raw))
    check_prefixes(picture, answers + (optional or []), verdict)
    return verdict
