# SPDX-License-Identifier: BSD-2-Clause
"""Streaming clients of a llama.cpp server, and what each was told: the outside view that a
recording must agree with."""
from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lib.server import Server

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
NATIVE = "/completion"
SHARED_PREFIX = "You are a helpful assistant. Answer the question with care, shortly. " * 3
LETTERS = "bcdefgh ijklm nopq"  # no "ab": one token a character


@dataclass(frozen=True)
class Ask:
    """One request to make."""

    endpoint: str
    prompt: str
    generate: int
    seed: int = 1
    cancel_after: int | None = None  # close the socket after so many generated tokens
    stop: tuple[str, ...] = ()       # end at one of these texts
    cache: bool = True


@dataclass
class Answer:
    """What the client was told. None: the server did not say (yet)."""

    ask: Ask
    prompt: list[int]                # token ids, cached ones included
    generated: list[int] = field(default_factory=list)  # as far as they were received
    count: int | None = None         # generated tokens by the server's own word
    client_id: str | None = None     # only the /v1 endpoints say one
    slot: int | None = None
    task: int | None = None          # the server's number, where the watcher saw it
    cached: int | None = None
    cancelled: bool = False
    error: str | None = None
    text: str = ""                   # as received, where the server says text and not tokens
    finish: str | None = None        # finish reason
    begin: float = 0.0               # time.monotonic()
    end: float = 0.0

    @property
    def finished(self) -> bool:
        return not self.cancelled and self.error is None

    @property
    def rows(self) -> int:
        """Rows that the server computed for it: the last sampled token is never evaluated.
        For a cancelled request: at least so many."""
        cached = self.cached or 0
        count = self.count if self.count is not None else len(self.generated)
        return len(self.prompt) - cached + count - 1

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.generated


def body_of(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"stream": True, "seed": ask.seed, "temperature": 1.0,
                            "cache_prompt": ask.cache, "timings_per_token": True}
    if ask.stop:
        body["stop"] = list(ask.stop)
    if ask.endpoint == NATIVE:
        return body | {"prompt": ask.prompt, "n_predict": ask.generate, "return_tokens": True}
    body |= {"max_tokens": ask.generate, "stream_options": {"include_usage": True}}
    if ask.endpoint == CHAT:
        return body | {"messages": [{"role": "user", "content": ask.prompt}],
                       "logprobs": True, "top_logprobs": 1}
    return body | {"prompt": ask.prompt, "logprobs": 1}


def prompt_tokens(server: Server, ask: Ask) -> list[int]:
    """The token ids of the prompt as the server makes them."""
    text = ask.prompt
    if ask.endpoint == CHAT:
        text = server.ask("/apply-template",
                          {"messages": [{"role": "user", "content": text}]})["prompt"]
    answer = server.ask("/tokenize", {"content": text, "add_special": True,
                                      "parse_special": True})
    return [int(token) for token in answer["tokens"]]


def events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The stream's JSON objects, as they arrive."""
    while line := response.readline():
        text = line.decode().strip()
        if text == "data: [DONE]":
            return
        if text.startswith("data: "):
            yield json.loads(text[6:])
        elif text.startswith("error: "):
            raise RuntimeError(text)


def take(answer: Answer, event: dict[str, Any]) -> None:
    """Note what one event of the stream says."""
    if "error" in event:
        raise RuntimeError(json.dumps(event["error"]))
    if "timings" in event:
        answer.cached = int(event["timings"]["cache_n"])
    if answer.ask.endpoint == NATIVE:
        answer.generated += [int(token) for token in event.get("tokens", [])]
        if event.get("stop"):
            answer.count = int(event["tokens_predicted"])
            answer.slot = int(event["id_slot"])
        return
    answer.client_id = event["id"]
    if event.get("usage"):
        answer.count = int(event["usage"]["completion_tokens"])
    for choice in event["choices"]:
        for token in (choice.get("logprobs") or {}).get("content") or []:
            answer.generated.append(int(token["id"]))


def perform(server: Server, ask: Ask) -> Answer:
    """Make one request and follow its stream to the end, or to where it is cancelled."""
    answer = Answer(ask, prompt_tokens(server, ask))
    connection = http.client.HTTPConnection(server.host, server.port, timeout=300)
    answer.begin = time.monotonic()
    try:
        connection.request("POST", ask.endpoint, json.dumps(body_of(ask)),
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {response.read()[:300]!r}")
        for event in events(response):
            take(answer, event)
            if ask.cancel_after is not None and len(answer.generated) >= ask.cancel_after:
                answer.cancelled = True
                break
        if not answer.cancelled and answer.count is None:
            raise RuntimeError("the stream ended early")
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        answer.error = repr(error)
    finally:
        connection.close()
        answer.end = time.monotonic()
    return answer


class Watcher:
    """Reads /slots now and then: where the server says who is served. A request's seed is its
    name there, so seeds must be unique."""

    def __init__(self, server: Server, period: float = 0.03) -> None:
        self.server, self.period = server, period
        self.seen: dict[int, tuple[int, int]] = {}  # seed -> slot, task
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.over.wait(self.period):
            try:
                slots = self.server.ask("/slots", seconds=10)
            except (OSError, RuntimeError, http.client.HTTPException):
                continue
            for slot in slots:
                if slot["is_processing"] and "params" in slot:
                    self.seen[int(slot["params"]["seed"])] = slot["id"], slot["id_task"]

    def stop(self, answers: Iterable[Answer]) -> None:
        """End, and complete @answers with what was seen."""
        self.over.set()
        self.thread.join()
        for answer in answers:
            slot, task = self.seen.get(answer.ask.seed, (None, None))
            answer.task = task
            answer.slot = slot if answer.slot is None else answer.slot


class Crowd:
    """Clients that work off a list of requests at the same time. @watch: also look at /slots."""

    def __init__(self, server: Server, asks: Iterable[Ask], clients: int,
                 perform: Callable[[Any, Any], Answer] = perform, watch: bool = True) -> None:
        self.server, self.perform = server, perform
        self.watcher = Watcher(server) if watch else None
        self.waiting = list(asks)
        self.answers: list[Answer] = []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._work, daemon=True)
                        for _ in range(clients)]

    def _work(self) -> None:
        while True:
            with self.lock:
                if not self.waiting:
                    return
                ask = self.waiting.pop(0)
            answer = self.perform(self.server, ask)
            with self.lock:
                self.answers.append(answer)

    def start(self) -> Crowd:
        if self.watcher:
            self.watcher.thread.start()
        for thread in self.threads:
            thread.start()
        return self

    def stop(self) -> None:
        """No further requests; those under way finish."""
        with self.lock:
            self.waiting.clear()

    def wait(self, seconds: float = 300.0) -> list[Answer]:
        end = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                raise TimeoutError("clients: requests still run")
        if self.watcher:
            self.watcher.stop(self.answers)
        return self.answers


def text_of(random_source: random.Random, length: int) -> str:
    return "".join(random_source.choice(LETTERS) for _ in range(length))


def mixed_asks(seed: int, count: int = 24, long: tuple[int, ...] = (700, 1150),
               cancelled: int = 4) -> list[Ask]:
    """A mixture with everything that a real server meets: three endpoints, shared prefixes,
    cancellations, stop texts, prompts over several ubatches. No request asks for a slot: b11549
    loads another prompt's cache into that slot even while it computes, and then no reference
    knows what it computes on."""
    source = random.Random(seed)
    asks: list[Ask] = []
    for number in range(count):
        shared = SHARED_PREFIX if number % 3 else ""
        endpoint = (CHAT, TEXT, NATIVE)[number % 3] if number % 7 else CHAT
        asks.append(Ask(
            endpoint, f"{shared}{number} {text_of(source, source.randint(5, 90))}",
            generate=source.randint(1, 30), seed=seed * 1000 + number,
            stop=tuple("eCvZzmV") if number % 8 == 3 else ()))
    for number, length in enumerate(long):
        asks.insert(2 + 3 * number, Ask((TEXT, NATIVE)[number % 2],
                                        f"long {number} {text_of(source, length)}", 6,
                                        seed=seed * 1000 + 500 + number))
    for number in range(cancelled):
        asks.insert(4 + 5 * number, Ask(
            (CHAT, TEXT)[number % 2], f"{SHARED_PREFIX}stop {number} {text_of(source, 20)}",
            generate=400, cancel_after=3 + 4 * number, seed=seed * 1000 + 600 + number))
    return asks
