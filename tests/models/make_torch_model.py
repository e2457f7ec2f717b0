# SPDX-License-Identifier: BSD-2-Clause
"""Writes a Hugging Face model folder with random weights: config, safetensors, tokenizer. The same
bytes for the same options and seed. Its main() is run by the transformers environment's Python.

As with the GGUF models, only printable ASCII is ever generated, one character a token, so that a
client knows every generated token id from the text that it got, and nothing ends by chance.
"""
from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

FAMILIES = ("olmoe", "qwen3_moe", "mixtral", "deepseek_v2", "deepseek_v2_groups", "deepseek_v3",
            "gpt_oss", "llama")
END, PAD, USER, ASSISTANT = "<|endoftext|>", "<|pad|>", "<|user|>", "<|assistant|>"
WORDS = ("the of and to in is you that it he was for on are with as his they be at one have this "
         "from or had by hot word but what some we can out other were all there when use your how "
         "said an each she which do their time if will way about many then them write would like "
         "so these her long make thing see him two has look more day could go come did number sound "
         "helpful answer question expert route token model layer server stop shared prefix").split()
TEMPLATE = ("{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>{% endif %}")
# One feature of the residual stream stays constant: embeddings set it, no layer writes it. The
# output row of a forbidden token reads it with a large negative weight.
CONSTANT_FEATURE = 0
FORBIDDEN_WEIGHT = -300.0
TOP_K = 20  # of the sampler, where a client does not say


@dataclass(frozen=True)
class TorchShape:
    """What the generated model looks like; `seed` decides the weights."""

    family: str = "olmoe"
    layers: int = 4
    experts: int = 16
    k: int = 4
    width: int = 128
    dtype: str = "float32"
    twins: int = 0  # so many experts have another one's router weights: equal scores, always
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


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Bytes, then the beginnings of some words with and without a space before them."""
    tokens = {text: number for number, text in enumerate(byte_alphabet())}
    merges: list[tuple[str, str]] = []
    for word in (space + word for word in WORDS for space in ("", "\u0120")):
        for end in range(2, len(word) + 1):
            if word[:end] not in tokens and len(tokens) < 768 - 4:
                tokens[word[:end]] = len(tokens)
                merges.append((word[:end - 1], word[end - 1]))
    for control in (END, PAD, USER, ASSISTANT):
        tokens[control] = len(tokens)
    return tokens, merges


def write_tokenizer(folder: Path) -> dict[str, int]:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens, merges = vocabulary()
    inner = Tokenizer(models.BPE(vocab=tokens, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(text, special=True, normalized=False)
                              for text in (END, PAD, USER, ASSISTANT)])
    whole = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END, bos_token=END,
                                    pad_token=PAD, clean_up_tokenization_spaces=False)
    whole.chat_template = TEMPLATE
    whole.save_pretrained(folder)
    return tokens


def family_options(shape: TorchShape) -> dict[str, Any]:
    """What the family's config wants besides the common part."""
    half = shape.width // 2
    latent = {"kv_lora_rank": 32, "q_lora_rank": 48, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16,
              "v_head_dim": 16, "moe_intermediate_size": half, "n_routed_experts": shape.experts,
              "n_shared_experts": 1, "num_experts_per_tok": shape.k, "num_key_value_heads": 4}
    groups = {"n_group": 4, "topk_group": 2}
    return {
        "olmoe": {"num_experts": shape.experts, "num_experts_per_tok": shape.k,
                  "num_key_value_heads": 4},
        "qwen3_moe": {"num_experts": shape.experts, "num_experts_per_tok": shape.k,
                      "moe_intermediate_size": half, "norm_topk_prob": True, "head_dim": 32,
                      "num_key_value_heads": 2},
        "mixtral": {"num_local_experts": shape.experts, "num_experts_per_tok": shape.k,
                    "num_key_value_heads": 1},
        "deepseek_v2": latent | {"routed_scaling_factor": 1.5, "topk_method": "greedy"},
        "deepseek_v2_groups": latent | groups | {"routed_scaling_factor": 2.0,
                                                 "topk_method": "group_limited_greedy"},
        "deepseek_v3": latent | groups | {"routed_scaling_factor": 2.5, "first_k_dense_replace": 1,
                                          "num_nextn_predict_layers": 0},
        "gpt_oss": {"num_local_experts": shape.experts, "num_experts_per_tok": shape.k,
                    "num_key_value_heads": 2, "head_dim": 32, "sliding_window": 64},
        "llama": {"num_key_value_heads": 2},
    }[shape.family]


def empty_model(shape: TorchShape, tokens: dict[str, int]) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    # Sizes of the vocabulary are round in real models: some rows of the embedding have no token.
    config = AutoConfig.for_model(
        shape.family.removesuffix("_groups"), vocab_size=(len(tokens) + 63) // 64 * 64,
        hidden_size=shape.width, intermediate_size=shape.width // 2, num_hidden_layers=shape.layers,
        num_attention_heads=4, max_position_embeddings=shape.context, bos_token_id=tokens[END],
        eos_token_id=tokens[END], pad_token_id=tokens[PAD], **family_options(shape))
    return AutoModelForCausalLM.from_config(config)


def draw(name: str, tensor: Any, source: Any, shape: TorchShape) -> Any:
    """The values of one tensor."""
    import torch

    values = torch.randn(tensor.shape, generator=source)
    if "norm" in name:
        return 1 + 0.1 * values
    if name.endswith("embed_tokens.weight"):
        values[:, CONSTANT_FEATURE] = 2
        return values
    if name.endswith("lm_head.weight"):
        values *= 2 * shape.width ** -0.5
        values[:, CONSTANT_FEATURE] = FORBIDDEN_WEIGHT
        values[32:127, CONSTANT_FEATURE] = 0  # printable ASCII, one byte a token
        return values
    if name.endswith(("mlp.gate.weight", "mlp.router.weight")):
        values *= 2 * shape.width ** -0.5
        values[shape.experts - shape.twins:] = values[:shape.twins]
        return values
    if values.dim() == 1 or name.endswith("_bias"):
        values *= 0.1
    else:
        inward = -2 if "gpt_oss" in shape.family and ".experts." in name else -1
        values /= math.sqrt(values.shape[inward])
    if "down_proj" in name or "o_proj" in name:  # these write the residual stream
        if values.dim() == 1 or name.endswith("_bias") or (
                "gpt_oss" in shape.family and ".experts." in name):
            values[..., CONSTANT_FEATURE] = 0
        else:
            values[..., CONSTANT_FEATURE, :] = 0
    return values


def make_torch_model(folder: Path, shape: TorchShape) -> Path:
    """Write the model that @shape describes to @folder, whole or not at all."""
    import torch

    partial = folder.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    model = empty_model(shape, write_tokenizer(partial))
    source = torch.Generator().manual_seed(shape.seed)
    with torch.no_grad():
        kept = [*model.named_parameters(),
                *(pair for pair in model.named_buffers() if "correction_bias" in pair[0])]
        for name, tensor in kept:
            tensor.copy_(draw(name, tensor, source, shape))
    model.to(getattr(torch, shape.dtype)).save_pretrained(partial)
    (partial / "generation_config.json").write_text(json.dumps(
        {"do_sample": True, "top_k": TOP_K, "temperature": 1.0, "top_p": 1.0,
         **{key: getattr(model.config, key)
            for key in ("bos_token_id", "eos_token_id", "pad_token_id")}}, indent=1))
    partial.replace(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for option in fields(TorchShape):
        choices = {"family": FAMILIES, "dtype": ("float32", "bfloat16")}
        parser.add_argument("--" + option.name, type=type(option.default), default=option.default,
                            choices=choices.get(option.name), help=f"default {option.default}")
    options = vars(parser.parse_args())
    folder = options.pop("folder")
    make_torch_model(folder, TorchShape(**options))


if __name__ == "__main__":
    main()
