# SPDX-License-Identifier: BSD-2-Clause
"""An operator's own server: uvicorn around model.generate(), answers as OpenAI's API makes them. Run by
the transformers environment's Python: serve_uvicorn.py MODEL. Prints "LISTEN <url>".

POST /generate {"id": text, "prompt": [ids], "generate": n} -> {"id", "generated": [ids], "usage"}"""
from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import threading
from typing import Any

import torch
import uvicorn
from transformers import AutoModelForCausalLM


class App:
    """The ASGI application. One generate() at a time, in threads of the loop's own pool."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.turn = threading.Lock()

    def generate(self, asked: dict[str, Any]) -> dict[str, Any]:
        prompt = torch.tensor([asked["prompt"]])
        with self.turn:
            result = self.model.generate(
                input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                min_new_tokens=asked["generate"], max_new_tokens=asked["generate"])
        generated = result[0, prompt.shape[1]:].tolist()
        return {"id": asked["id"], "object": "text_completion", "generated": generated,
                "usage": {"prompt_tokens": prompt.shape[1], "completion_tokens": len(generated),
                          "total_tokens": prompt.shape[1] + len(generated)}}

    async def answer(self, method: str, receive: Any) -> dict[str, Any]:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if method != "POST":
            return {"status": "ok"}
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self.generate, json.loads(body))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        content = json.dumps(await self.answer(scope["method"], receive)).encode()
        await send({"type": "http.response.start", "status": 200,
                    "headers": [(b"content-type", b"application/json"),
                                (b"content-length", str(len(content)).encode())]})
        await send({"type": "http.response.body", "body": content})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    options = parser.parse_args()
    app = App(AutoModelForCausalLM.from_pretrained(options.model, dtype="auto").eval())
    certificate, key = options.tls or (None, None)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, loop=options.loop, log_level="info",
                                           lifespan="off", ssl_certfile=certificate,
                                           ssl_keyfile=key))
    scheme = "https" if certificate else "http"
    os.write(1, f"\nLISTEN {scheme}://127.0.0.1:{listener.getsockname()[1]}\n".encode())
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
