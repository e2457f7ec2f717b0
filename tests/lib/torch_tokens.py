# SPDX-License-Identifier: BSD-2-Clause
"""The generated models' tokenizer, written again: what a client needs to know which tokens its text
becomes. For ASCII; compared with the tokenizers library by a test."""
from __future__ import annotations

import re

from models.make_torch_model import ASSISTANT, END, PAD, USER, byte_alphabet, vocabulary

TOKENS, MERGES = vocabulary()
RANK = {pair: number for number, pair in enumerate(MERGES)}
STAND_IN = byte_alphabet()
CONTROL = re.compile("(" + "|".join(map(re.escape, (END, PAD, USER, ASSISTANT))) + ")")
WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")


def encode_word(word: str) -> list[int]:
    parts = [STAND_IN[byte] for byte in word.encode("ascii")]
    while len(parts) > 1:
        pairs = list(zip(parts, parts[1:]))
        best = min(range(len(pairs)), key=lambda place: RANK.get(pairs[place], len(RANK)))
        if pairs[best] not in RANK:
            break
        parts[best:best + 2] = ["".join(pairs[best])]
    return [TOKENS[part] for part in parts]


def encode(text: str) -> list[int]:
    """The token ids of @text; control tokens may be written out."""
    ids: list[int] = []
    for part in CONTROL.split(text):
        if part in (END, PAD, USER, ASSISTANT):
            ids.append(TOKENS[part])
        else:
            ids += [token for word in WORD.findall(part) for token in encode_word(word)]
    return ids


def encode_chat(content: str) -> list[int]:
    """A chat of one message of the user, as the template writes it."""
    return encode(USER + content + ASSISTANT)


def generated_ids(text: str) -> list[int]:
    """The ids of a generated text: one printable character a token, its id is the character's."""
    if not all(32 <= ord(character) < 127 for character in text):
        raise ValueError(f"not what these models generate: {text!r}")
    return [ord(character) for character in text]
