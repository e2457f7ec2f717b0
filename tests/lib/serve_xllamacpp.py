# SPDX-License-Identifier: BSD-2-Clause
"""A real llama.cpp server in this process, or two. Prints "LISTEN <url>" for each, then serves until
killed. SIGTERM ends it; on SIGUSR1 it becomes another program."""
from __future__ import annotations

import argparse
import os
import signal
import sys


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--context", type=int, default=8192, help="tokens of all slots")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--ubatch", type=int, default=512)
    parser.add_argument("--kv-type", choices=("f32", "f16"), default="f16")
    parser.add_argument("--flash-attention", choices=("auto", "disabled", "enabled"),
                        default="auto")
    parser.add_argument("--load-mode", choices=("auto", "none", "mmap"), default="auto")
    parser.add_argument("--kv-unified", action="store_true")
    parser.add_argument("--second", metavar="MODEL", help="another server for this model")
    parser.add_argument("--library", help="directory to import xllamacpp from")
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.library:
        sys.path.insert(0, options.library)
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = options.context
    params.n_batch = options.batch
    params.n_ubatch = options.ubatch
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.cache_type_k = getattr(xllamacpp.ggml_type, "GGML_TYPE_" + options.kv_type.upper())
    params.cache_type_v = params.cache_type_k
    params.flash_attn_type = getattr(
        xllamacpp.llama_flash_attn_type,
        "LLAMA_FLASH_ATTN_TYPE_" + options.flash_attention.upper())
    params.load_mode = getattr(xllamacpp.llama_load_mode,
                               "LLAMA_LOAD_MODE_" + options.load_mode.upper())
    params.kv_unified = options.kv_unified
    params.endpoint_slots = True
    servers = [xllamacpp.Server(params)]
    if options.second:
        params.model.path = options.second
        servers.append(xllamacpp.Server(params))
    # Writes with lines of their own: the servers' threads log to the same file in pieces.
    for server in servers:
        os.write(1, f"\nLISTEN {server.listening_address}\n".encode())
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGUSR1, lambda *_: os.execv("/bin/sleep", ["sleep", "60"]))
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
