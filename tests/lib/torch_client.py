# SPDX-License-Identifier: BSD-2-Clause
"""Clients of PyTorch servers: what they asked and what they were told. These servers say text, never
token ids; the generated models make one character a token, so ids follow from the text."""
from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lib.client import CHAT, TEXT, Answer, Ask, Crowd, text_of
from lib.server import Server
from lib.torch_tokens import encode, encode_chat, generated_ids
from models.make_torch_model import END, PAD, vocabulary

SHARED = ("the question for the helpful expert is how to route these tokens of the model in one "
          "layer and what the other server would make of them at this time; ") * 2


@dataclass(frozen=True)
class TorchAsk(Ask):
    """One request; its id is the client's choice."""

    request_id: str = ""
    stream: bool = True
    top_k: int | None = None  # None: the server's own sampling parameters
    greedy: bool = False
    headers: tuple[tuple[str, str], ...] = ()  # that the request has beside the usual ones

    @property
    def prompt_ids(self) -> list[int]:
        return encode_chat(self.prompt) if self.endpoint == CHAT else encode(self.prompt)


def generation_config(top_k: int) -> str:
    """The only way to say top_k to `transformers serve`: it replaces the model's whole own config."""
    tokens, _ = vocabulary()
    return json.dumps({"do_sample": True, "top_k": top_k, "eos_token_id": tokens[END],
                       "pad_token_id": tokens[PAD]})


def body_of(ask: TorchAsk) -> dict[str, Any]:
    body: dict[str, Any] = {"stream": ask.stream, "max_tokens": ask.generate}
    if ask.greedy:
        body["temperature"] = 0
    if ask.top_k is not None:
        body["generation_config"] = generation_config(ask.top_k)
    if ask.endpoint == CHAT:
        return body | {"messages": [{"role": "user", "content": ask.prompt}]}
    return body | {"prompt": ask.prompt}


def events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The stream's JSON objects, as they arrive; the last one has the usage."""
    while line := response.readline():
        text = line.decode().strip()
        if text.startswith("data: "):
            yield json.loads(text[6:])


def take(answer: Answer, said: dict[str, Any]) -> None:
    """Note what a whole answer or one event of a stream says."""
    if "error" in said:
        raise RuntimeError(json.dumps(said["error"]))
    answer.client_id = said["id"]
    for choice in said["choices"]:
        part = choice.get("delta") or choice.get("message") or choice
        answer.text += part.get("content") or part.get("text") or ""
        answer.finish = choice.get("finish_reason") or answer.finish
    answer.generated = generated_ids(answer.text)
    if said.get("usage"):
        answer.count = int(said["usage"]["completion_tokens"])
        if said["usage"]["prompt_tokens"] != len(answer.prompt):
            raise RuntimeError(f"prompt of {said['usage']['prompt_tokens']} tokens, "
                               f"not {len(answer.prompt)}")


def perform(server: Server, ask: TorchAsk,
            kept: http.client.HTTPConnection | None = None) -> Answer:
    """Make one request and follow it to its end, or to where it is cancelled. @kept: a connection
    that stays open for the next one."""
    answer = Answer(ask, ask.prompt_ids, client_id=ask.request_id)
    connection = kept or http.client.HTTPConnection(server.host, server.port, timeout=300)
    answer.begin = time.monotonic()
    try:
        connection.request("POST", ask.endpoint, json.dumps(body_of(ask)),
                           {"Content-Type": "application/json", "x-request-id": ask.request_id,
                            **dict(ask.headers)})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {response.read()[:300]!r}")
        if response.headers["x-request-id"] != ask.request_id:
            raise RuntimeError(f"x-request-id {response.headers['x-request-id']!r}")
        for said in events(response) if ask.stream else [json.loads(response.read())]:
            take(answer, said)
            if ask.cancel_after is not None and len(answer.generated) >= ask.cancel_after:
                answer.cancelled = True
                break
        if not answer.cancelled and answer.count != len(answer.generated):
            raise RuntimeError(f"{answer.count} tokens in {answer.text!r}")
    except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
        answer.error = repr(error)
    finally:
        if not kept:
            connection.close()
        answer.end = time.monotonic()
    return answer


def crowd(server: Server, asks: list[TorchAsk], clients: int = 8) -> Crowd:
    return Crowd(server, asks, clients, perform=perform, watch=False)


def torch_asks(seed: int, count: int = 20, longest: int = 600, cancelled: int = 3) -> list[TorchAsk]:
    """A mixture with what these servers meet: both endpoints, streamed or not, shared prefixes,
    cancellations by closing the socket, sampling with and without top_k. Prompts are unique."""
    source = random.Random(seed)
    asks: list[TorchAsk] = []
    for number in range(count):
        shared = SHARED if number % 3 else ""
        length = longest if number == 5 else source.randint(5, 90)
        asks.append(TorchAsk(
            (CHAT, TEXT)[number % 2], f"{shared}{number} {text_of(source, length)}",
            generate=source.randint(1, 24), request_id=f"ask-{seed}-{number}",
            stream=number % 4 != 3, top_k=(None, 5, 50)[number % 3], greedy=number % 5 == 0))
    for number in range(cancelled):
        asks.insert(3 + 5 * number, TorchAsk(
            (CHAT, TEXT)[number % 2], f"{SHARED}stop {number} {text_of(source, 20)}",
            generate=600, cancel_after=3 + 4 * number, request_id=f"cancelled-{seed}-{number}"))
    return asks


@dataclass(frozen=True)
class Batch:
    """One call of serve_generate.py: several prompts in one generate()."""

    prompts: tuple[tuple[int, ...], ...]
    generate: int
    request_id: str = ""
    seed: int = 1
    top_k: int | None = None  # None: greedy
    top_p: float | None = None
    cancel_seconds: float | None = None  # close the socket then; no answer comes

    @property
    def body(self) -> dict[str, Any]:
        sampling = {"top_k": self.top_k, "top_p": self.top_p} if self.top_k is not None else {}
        return {"prompts": self.prompts, "generate": self.generate, "seed": self.seed} | sampling


def perform_batch(server: Server, batch: Batch) -> list[Answer]:
    """One answer a prompt. A cancelled batch's tokens are told later: complete_cancelled()."""
    ask = TorchAsk("/generate", "", batch.generate, request_id=batch.request_id)
    answers = [Answer(ask, list(prompt), cancelled=batch.cancel_seconds is not None)
               for prompt in batch.prompts]
    connection = http.client.HTTPConnection(server.host, server.port, timeout=300)
    try:
        connection.request("POST", "/generate", json.dumps(batch.body),
                           {"x-request-id": batch.request_id})
        if batch.cancel_seconds is not None:
            time.sleep(batch.cancel_seconds)
            return answers
        told = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    for answer, generated in zip(answers, told["generated"], strict=True):
        answer.generated, answer.count = generated, len(generated)
    return answers


def complete_cancelled(server: Server, answers: list[Answer]) -> None:
    """What cancelled batches had got to, by the server's log."""
    told: dict[tuple[int, ...], list[int]] = {}
    for line in server.log.read_text().splitlines():
        if line.startswith("{"):
            batch = json.loads(line)
            told |= {tuple(prompt): generated for prompt, generated
                     in zip(batch["prompts"], batch["generated"], strict=True)}
    for answer in answers:
        if answer.cancelled:
            answer.generated = told[tuple(answer.prompt)]
            answer.count = len(answer.generated)


def batches(seed: int, count: int = 6) -> list[Batch]:
    """Batches of one to four prompts of any length, so most have padding; greedy and sampled; the
    last but one is cancelled."""
    source = random.Random(seed)
    made: list[Batch] = []
    for number in range(count):
        texts = [f"{SHARED if source.random() < 0.3 else ''}{number} {place} "
                 f"{text_of(source, source.randint(3, 120))}" for place in range(1 + number % 4)]
        cancelled = number == count - 2
        made.append(Batch(
            tuple(tuple(encode(text)) for text in texts), 2000 if cancelled else source.randint(2, 20),
            request_id=f"batch-{seed}-{number}", seed=seed, top_k=(None, 5, 50)[number % 3],
            top_p=(None, 0.9)[number % 2] if number % 3 else None,
            cancel_seconds=1.5 if cancelled else None))
    return made


def perform_batches(server: Server, asked: list[Batch], clients: int = 3) -> list[Answer]:
    with ThreadPoolExecutor(clients) as pool:
        done = list(pool.map(lambda batch: perform_batch(server, batch), asked))
    return [answer for answers in done for answer in answers]


def perform_plain(server: Server, tokens: list[int], generate: int) -> tuple[Answer, dict[str, Any]]:
    """A request to serve_plain_torch.py, and all that it tells."""
    told = server.ask("/generate", {"tokens": tokens, "generate": generate})
    return Answer(TorchAsk("/generate", "", generate), tokens, told["generated"],
                  len(told["generated"])), told
