# SPDX-License-Identifier: BSD-2-Clause
"""Writes a GGUF model with random weights, the same bytes for the same options and seed.

Architectures: olmoe, qwen3moe, mixtral (the file says "llama", with experts) and dense (a llama
without experts, which has no routing). The vocabulary is byte-level, so every text has tokens;
only printable ASCII is ever generated, so streamed text is always valid.
"""
from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

import gguf
import numpy as np

FILE_ARCHITECTURE = {"olmoe": "olmoe", "qwen3moe": "qwen3moe", "mixtral": "llama",
                     "dense": "llama"}
QUANTISATIONS = ("f32", "f16", "q8_0")
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END_OF_TEXT = 257  # after 256 bytes and one merged pair
TEMPLATE = ("{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
            "assistant: ")
# One feature of the residual stream stays constant: embeddings set it, no layer writes it. The
# output row of a forbidden token reads it with a large negative weight.
CONSTANT_FEATURE = 0
FORBIDDEN_WEIGHT = -300.0


@dataclass(frozen=True)
class Shape:
    """What the generated model looks like; `seed` decides the weights."""

    arch: str = "olmoe"
    layers: int = 4
    experts: int = 16
    k: int = 4
    width: int = 128
    heads: int = 4
    kv_heads: int = 4
    ffn: int = 64
    quantisation: str = "f32"
    context: int = 4096
    seed: int = 1


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte: token text i is byte i."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    stand_in = {byte: chr(byte) for byte in plain}
    for byte in range(256):
        if byte not in stand_in:
            stand_in[byte] = chr(256 + len(stand_in) - len(plain))
    return [stand_in[byte] for byte in range(256)]


def generated_tokens() -> np.ndarray:
    """True for each token id that the model may generate: printable ASCII."""
    allowed = np.zeros(257 + len(CONTROL_TOKENS), dtype=bool)
    allowed[32:127] = True
    return allowed


class ModelWriter:
    """Draws tensors in a fixed order from one random generator and writes them."""

    def __init__(self, path: Path, shape: Shape) -> None:
        self.shape = shape
        self.random = np.random.default_rng(shape.seed)
        self.file = gguf.GGUFWriter(str(path), FILE_ARCHITECTURE[shape.arch])

    def matrix(self, name: str, *dimensions: int, scale: float, quantised: bool = True,
               keep_constant: bool = False) -> None:
        """A tensor of normal numbers; with @keep_constant it does not write that feature."""
        values = self.random.standard_normal(dimensions, dtype=np.float32)
        values *= np.float32(scale)
        if keep_constant:
            values[..., CONSTANT_FEATURE, :] = 0
        kind = self.shape.quantisation if quantised else "f32"
        if kind == "f32":
            self.file.add_tensor(name, values)
            return
        raw = gguf.GGMLQuantizationType[kind.upper()]
        self.file.add_tensor(name, gguf.quants.quantize(values, raw), raw_dtype=raw)

    def norm(self, name: str, size: int) -> None:
        values = 1 + 0.1 * self.random.standard_normal(size)
        self.file.add_tensor(name, values.astype(np.float32))

    def header(self) -> None:
        shape, file = self.shape, self.file
        head = shape.width // shape.heads
        file.add_name(f"random {shape.arch}")
        file.add_block_count(shape.layers)
        file.add_context_length(shape.context)
        file.add_embedding_length(shape.width)
        file.add_feed_forward_length(shape.ffn)
        file.add_head_count(shape.heads)
        file.add_head_count_kv(shape.kv_heads)
        file.add_layer_norm_rms_eps(1e-5)
        file.add_rope_freq_base(10000.0)
        file.add_rope_dimension_count(head)
        if shape.arch == "qwen3moe":
            file.add_key_length(head)
            file.add_value_length(head)
            file.add_expert_feed_forward_length(shape.ffn)
        if shape.arch != "dense":
            file.add_expert_count(shape.experts)
            file.add_expert_used_count(shape.k)

    def vocabulary(self) -> int:
        file = self.file
        tokens = [*byte_alphabet(), "ab", *CONTROL_TOKENS]
        kinds = [gguf.TokenType.NORMAL] * 257 + [gguf.TokenType.CONTROL] * len(CONTROL_TOKENS)
        file.add_vocab_size(len(tokens))
        file.add_tokenizer_model("gpt2")
        file.add_tokenizer_pre("gpt-2")
        file.add_token_list(tokens)
        file.add_token_types(kinds)
        file.add_token_merges(["a b"])
        file.add_bos_token_id(END_OF_TEXT)
        file.add_eos_token_id(END_OF_TEXT)
        file.add_add_bos_token(False)
        file.add_chat_template(TEMPLATE)
        return len(tokens)

    def ends(self, vocabulary: int) -> None:
        """Embedding and output."""
        width = self.shape.width
        embedding = self.random.standard_normal((vocabulary, width), dtype=np.float32)
        embedding[:, CONSTANT_FEATURE] = 2
        self.file.add_tensor("token_embd.weight", embedding)
        self.norm("output_norm.weight", width)
        output = self.random.standard_normal((vocabulary, width), dtype=np.float32)
        output *= np.float32(2 * width ** -0.5)
        output[:, CONSTANT_FEATURE] = np.where(generated_tokens(), 0, FORBIDDEN_WEIGHT)
        self.file.add_tensor("output.weight", output)

    def attention(self, prefix: str) -> None:
        shape = self.shape
        width, head = shape.width, shape.width // shape.heads
        kv_width, scale = shape.kv_heads * head, shape.width ** -0.5
        self.norm(prefix + "attn_norm.weight", width)
        self.norm(prefix + "ffn_norm.weight", width)
        self.matrix(prefix + "attn_q.weight", width, width, scale=scale)
        self.matrix(prefix + "attn_k.weight", kv_width, width, scale=scale)
        self.matrix(prefix + "attn_v.weight", kv_width, width, scale=scale)
        self.matrix(prefix + "attn_output.weight", width, width, scale=scale,
                    keep_constant=True)
        if shape.arch == "olmoe":  # over all heads together
            self.norm(prefix + "attn_q_norm.weight", width)
            self.norm(prefix + "attn_k_norm.weight", kv_width)
        if shape.arch == "qwen3moe":  # over each head
            self.norm(prefix + "attn_q_norm.weight", head)
            self.norm(prefix + "attn_k_norm.weight", head)

    def feed_forward(self, prefix: str) -> None:
        shape = self.shape
        width, ffn = shape.width, shape.ffn
        inward, outward = width ** -0.5, ffn ** -0.5
        if shape.arch == "dense":
            self.matrix(prefix + "ffn_gate.weight", ffn, width, scale=inward)
            self.matrix(prefix + "ffn_up.weight", ffn, width, scale=inward)
            self.matrix(prefix + "ffn_down.weight", width, ffn, scale=outward,
                        keep_constant=True)
            return
        self.matrix(prefix + "ffn_gate_inp.weight", shape.experts, width, scale=2 * inward,
                    quantised=False)
        self.matrix(prefix + "ffn_gate_exps.weight", shape.experts, ffn, width, scale=inward)
        self.matrix(prefix + "ffn_up_exps.weight", shape.experts, ffn, width, scale=inward)
        self.matrix(prefix + "ffn_down_exps.weight", shape.experts, width, ffn, scale=outward,
                    keep_constant=True)

    def write(self) -> None:
        self.header()
        self.ends(self.vocabulary())
        for layer in range(self.shape.layers):
            self.attention(f"blk.{layer}.")
            self.feed_forward(f"blk.{layer}.")
        self.file.write_header_to_file()
        self.file.write_kv_data_to_file()
        self.file.write_tensors_to_file()
        self.file.close()


def make_model(path: Path, shape: Shape) -> Path:
    """Write the model that @shape describes to @path, whole or not at all."""
    if shape.width % shape.heads or shape.heads % shape.kv_heads:
        raise ValueError("width must be a multiple of heads, heads of kv_heads")
    if shape.arch == "olmoe" and shape.kv_heads != shape.heads:
        raise ValueError("olmoe has as many key and value heads as heads")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    ModelWriter(partial, shape).write()
    partial.replace(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    for option in fields(Shape):
        choices = {"arch": list(FILE_ARCHITECTURE), "quantisation": QUANTISATIONS}
        parser.add_argument("--" + option.name.replace("_", "-"), type=type(option.default),
                            default=option.default, choices=choices.get(option.name),
                            help=f"default {option.default}")
    options = vars(parser.parse_args())
    path = options.pop("file")
    shape = Shape(**options)
    make_model(path, shape)
    print(f"{path}: {shape}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
