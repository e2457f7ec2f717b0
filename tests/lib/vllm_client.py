# SPDX-License-Identifier: BSD-2-Clause
"""Clients of vLLM. It says token ids where they are asked for, and of each prompt how much of it
came from its cache."""
from __future__ import annotations

import http.client
import json
import random
import time
from dataclasses import dataclass
from typing import Any

from lib.client import CHAT, TEXT, Answer, Ask, Crowd, events, text_of
from lib.server import Server
from lib.torch_client import SHARED
from lib.torch_tokens import encode, encode_chat

SHARED_IDS = tuple(encode(SHARED))


@dataclass(frozen=True)
class VllmAsk(Ask):
    """One request; its id is the client's choice. @ids: the prompt as token ids, for TEXT."""

    request_id: str = ""
    stream: bool = True
    ids: tuple[int, ...] = ()
    top_k: int | None = None
    greedy: bool = False

    @property
    def prompt_ids(self) -> list[int]:
        if self.ids:
            return list(self.ids)
        return encode_chat(self.prompt) if self.endpoint == CHAT else encode(self.prompt)

    @property
    def client_id(self) -> str:
        """What vLLM makes of the client's id."""
        return ("chatcmpl-" if self.endpoint == CHAT else "cmpl-") + self.request_id


def body_of(ask: VllmAsk) -> dict[str, Any]:
    """No seed of its own: vLLM 0.32 on CPU ends when a request in a batch has one."""
    body: dict[str, Any] = {"model": "model", "stream": ask.stream, "max_tokens": ask.generate,
                            "temperature": 0 if ask.greedy else 1, "ignore_eos": True,
                            "return_token_ids": True}
    if ask.stream:
        body["stream_options"] = {"include_usage": True}
    if ask.top_k is not None:
        body["top_k"] = ask.top_k
    if ask.endpoint == CHAT:
        return body | {"messages": [{"role": "user", "content": ask.prompt}]}
    return body | {"prompt": list(ask.ids) if ask.ids else ask.prompt}


def take(answer: Answer, said: dict[str, Any]) -> None:
    """Note what a whole answer or one event of a stream says."""
    if "error" in said:
        raise RuntimeError(json.dumps(said["error"]))
    if said["id"] != answer.client_id:
        raise RuntimeError(f"id {said['id']!r}, not {answer.client_id!r}")
    for choice in said["choices"]:
        answer.generated += choice.get("token_ids") or []
        answer.finish = choice.get("finish_reason") or answer.finish
        prompt = choice.get("prompt_token_ids") or said.get("prompt_token_ids")
        if prompt and prompt != answer.prompt:
            raise RuntimeError(f"prompt {prompt}, not {answer.prompt}")
    if usage := said.get("usage"):
        answer.count = int(usage["completion_tokens"])
        answer.cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
        if usage["prompt_tokens"] != len(answer.prompt):
            raise RuntimeError(f"prompt of {usage['prompt_tokens']} tokens, "
                               f"not {len(answer.prompt)}")


def perform(server: Server, ask: VllmAsk) -> Answer:
    """Make one request and follow it to its end, or to where it is cancelled."""
    answer = Answer(ask, ask.prompt_ids, client_id=ask.client_id)
    connection = http.client.HTTPConnection(server.host, server.port, timeout=300)
    answer.begin = time.monotonic()
    try:
        connection.request("POST", ask.endpoint, json.dumps(body_of(ask)),
                           {"Content-Type": "application/json", "x-request-id": ask.request_id})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {response.read()[:300]!r}")
        for said in events(response) if ask.stream else [json.loads(response.read())]:
            take(answer, said)
            if ask.cancel_after is not None and len(answer.generated) >= ask.cancel_after:
                answer.cancelled = True
                break
        if not answer.cancelled and answer.count != len(answer.generated):
            raise RuntimeError(f"{answer.count} tokens, ids of {len(answer.generated)}")
    except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
        answer.error = repr(error)
    finally:
        connection.close()
        answer.end = time.monotonic()
    return answer


def crowd(server: Server, asks: list[VllmAsk], clients: int = 8) -> Crowd:
    return Crowd(server, asks, clients, perform=perform, watch=False)


def vllm_asks(seed: int, count: int = 24, longest: int = 400, cancelled: int = 3,
              generate: int = 24) -> list[VllmAsk]:
    """A mixture with what vLLM meets: both endpoints, text and token ids, streamed or not, shared
    prefixes of whole blocks, some equal prompts, cancellations by closing the socket, sampling with
    and without top_k."""
    source = random.Random(seed)
    asks: list[VllmAsk] = []
    for number in range(count):
        shared = SHARED if number % 3 else ""
        length = longest if number == 5 else source.randint(5, 90)
        text = f"{shared}{number} {text_of(source, length)}"
        asks.append(VllmAsk(
            (CHAT, TEXT)[number % 2], text, generate=source.randint(1, generate),
            request_id=f"ask-{seed}-{number}", stream=number % 4 != 3,
            ids=tuple(encode(text)) if number % 6 == 1 else (),
            top_k=(None, 5)[number % 2], greedy=number % 5 == 0))
    for number in range(2):  # nothing but their ids and what is sampled tells these apart
        asks.insert(7, VllmAsk(TEXT, f"{SHARED}twins", generate=12,
                               request_id=f"twin-{seed}-{number}"))
    for number in range(cancelled):
        asks.insert(3 + 5 * number, VllmAsk(
            (CHAT, TEXT)[number % 2], f"{SHARED}stop {number} {text_of(source, 20)}",
            generate=300, cancel_after=3 + 4 * number, request_id=f"cancelled-{seed}-{number}"))
    return asks


def long_asks(seed: int, count: int = 12) -> list[VllmAsk]:
    """Long texts with few beginnings: more than a small cache holds of eight at a time."""
    source = random.Random(seed)
    return [VllmAsk(TEXT, f"{SHARED if number % 2 else ''}{number} {text_of(source, 40)}",
                    generate=120 + 5 * number, request_id=f"long-{seed}-{number}",
                    greedy=number % 3 == 0) for number in range(count)]
