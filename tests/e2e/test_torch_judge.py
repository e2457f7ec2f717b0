# SPDX-License-Identifier: BSD-2-Clause
"""The PyTorch suite's own tools must be able to fail: a picture made from the reference passes, and
each planted fault is named. And the two oracles, which share no code, agree."""
from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.client import TEXT, Answer
from lib.exact import check_totals
from lib.fake_picture import Row, picture_of, rows_of
from lib.torch_client import SHARED, TorchAsk
from lib.torch_env import PYTHON
from lib.torch_judge import judge_torch
from lib.torch_models import EXACT, torch_model
from lib.torch_oracle import NumpyTorchOracle, TorchOracle, torch_oracle
from lib.torch_tokens import encode, generated_ids

pytestmark = pytest.mark.transformers
Story = list[tuple[Answer, int, list[Row]]]
CACHED = 64


@pytest.fixture(name="oracle", scope="module")
def fixture_oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchOracle]:
    log = tmp_path_factory.mktemp("reference") / "log"
    with torch_oracle(torch_model(EXACT["deepseek_v3"]), log) as oracle:
        yield oracle


def answer_of(name: str, prompt: str, text: str) -> Answer:
    ask = TorchAsk(TEXT, prompt, len(text), request_id=name)
    return Answer(ask, ask.prompt_ids, generated_ids(text), len(text), name, text=text)


def story_of(oracle: TorchOracle) -> Story:
    """Three requests, the second with its first pages from the cache."""
    answers = [answer_of("a", SHARED + "first", "Hello!"), answer_of("b", SHARED + "other", "no"),
               answer_of("c", "short", "x")]
    return [(answer, cached, rows_of(number, answer, oracle, cached))
            for number, (answer, cached) in enumerate(zip(answers, (0, CACHED, 0), strict=True), 1)]


def faults_of(story: Story, oracle: TorchOracle, answers: list[Answer]) -> list[str]:
    layers = sorted({layer for _, _, rows in story for row in rows for layer in row.routes})
    picture = picture_of(story, layers)
    check_totals(picture)
    return judge_torch(picture, answers, oracle, page=32).faults


def test_right_picture_passes(oracle: TorchOracle) -> None:
    story = story_of(oracle)
    layers = [1, 2, 3]  # the first one is dense
    verdict = judge_torch(picture_of(story, layers), [answer for answer, _, _ in story], oracle,
                          page=32)
    assert verdict.faults == []
    assert verdict.requests == 3
    assert verdict.decisions == 3 * sum(len(rows) for _, _, rows in story)


def wrong_id(story: Story) -> None:
    ids, _ = story[0][2][7].routes[2]
    ids[3] = next(expert for expert in range(16) if expert not in ids)


def wrong_order(story: Story) -> None:
    ids, weights = story[0][2][7].routes[2]
    ids[[0, 1]], weights[[0, 1]] = ids[[1, 0]], weights[[1, 0]]


def other_owner(story: Story) -> None:
    """A generated row of one request is given to another (as packed rows can be)."""
    row = story[0][2].pop()
    row.request = 2
    story[1][2].append(row)


def shift(story: Story) -> None:
    for row in story[2][2]:
        row.position += 1


def double(story: Story) -> None:
    """The same request twice, as two observers of it would tell."""
    answer, cached, rows = story[2]
    story.append((answer, cached, [Row(4, row.position, row.token, row.phase, row.output,
                                       row.routes) for row in rows]))


def padding(story: Story) -> None:
    """A padded row counted as one of the request."""
    first = story[2][2][0]
    story[2][2].insert(0, Row(3, 0, 692, first.phase, False, first.routes))


def drop_decision(story: Story) -> None:
    del story[1][2][5].routes[3]


@pytest.mark.parametrize(("plant", "reason"), [
    (wrong_id, "layer 2 position 7: experts"),
    (wrong_order, "layer 2 position 7: experts"),
    (lambda s: s[1][2][3].routes[1][1].__iadd__(1e-4), "weights differ by 1.0e-04"),
    (lambda s: setattr(s[0][2][4], "token", 33), "token 33 at 4"),
    (lambda s: setattr(s[0][2][-2], "token", 33), "token 33 at"),
    (lambda s: s[0][2].pop(), "request 1: rows"),
    (lambda s: s[0][2].pop(5), "request 1: rows"),
    (lambda s: s.pop(2), "0 requests in the recording for c"),
    (lambda s: s.__setitem__(1, (s[1][0], 32, s[1][2])), "request 2: rows"),
    (lambda s: s.__setitem__(2, (s[2][0], 1, s[2][2][1:])), "cached prefix of 1 tokens"),
    (other_owner, "request 2: rows"),
    (shift, "request 3: positions"),
    (double, "2 requests in the recording for c"),
    (padding, "request 3: rows"),
    (drop_decision, "request 2: rows routed in layer 3"),
])
def test_each_fault_is_named(oracle: TorchOracle, plant: Callable[[Story], Any],
                             reason: str) -> None:
    story = story_of(oracle)
    answers = [answer for answer, _, _ in story]
    plant(story)
    faults = faults_of(story, oracle, answers)
    assert any(reason in fault for fault in faults), faults


def test_order_of_equal_weights_is_free(oracle: TorchOracle) -> None:
    """Only as near as rounding, and never another set."""
    story = story_of(oracle)
    answers = [answer for answer, _, _ in story]
    wrong_order(story)

    class Near:
        """The reference, by whose word the two weights are equal."""

        layers = oracle.layers

        def __init__(self, gap: float) -> None:
            self.gap = gap

        def forward(self, tokens: list[int], forced: Any = None) -> Any:
            layers, logits = oracle.forward(tokens, forced)
            if len(tokens) > 7:
                layers[2].order_gap[7] = self.gap
                layers[2].weights[7, 1] = layers[2].weights[7, 0]
            return layers, logits

    layers = [1, 2, 3]
    ids, weights = story[0][2][7].routes[2]
    weights[1] = weights[0] = weights[:2].max()
    judged = [judge_torch(picture_of(story, layers), answers, Near(gap), page=32).faults
              for gap in (1e-8, 1e-5)]
    assert not any("experts" in fault for fault in judged[0]), judged[0]
    assert any("layer 2 position 7: experts" in fault for fault in judged[1])
    wrong_id(story)
    faults = judge_torch(picture_of(story, layers), answers, Near(1e-8), page=32).faults
    assert any("layer 2 position 7: experts" in fault for fault in faults)


def test_prefix_must_have_been_computed(oracle: TorchOracle) -> None:
    answer = answer_of("b", SHARED + "other", "no")
    faults = faults_of([(answer, CACHED, rows_of(1, answer, oracle, CACHED))], oracle, [answer])
    assert any("nobody computed its cached prefix of 64" in fault for fault in faults), faults


@pytest.mark.parametrize("family", ["olmoe", "qwen3_moe"])
def test_oracles_agree(family: str, tmp_path: Path) -> None:
    """transformers in float32 and NumPy in float64 choose the same, apart from near ties."""
    folder, tokens = torch_model(EXACT[family]), encode(SHARED * 3)
    with torch_oracle(folder, tmp_path / "log") as oracle:
        theirs, logits = oracle.forward(tokens)
    ours, our_logits = NumpyTorchOracle(folder).forward(tokens)
    for number, layer in enumerate(ours):
        other = theirs[number]
        same = (layer.ids == other.ids).all(axis=-1)
        assert (layer.gap[~same] < 1e-6).all() or (layer.order_gap[~same] < 1e-6).all()
        assert np.abs(layer.weights - other.weights)[same].max() < 1e-5
    assert np.abs(logits - our_logits).max() < 1e-2


def test_forced_choice_is_followed(oracle: TorchOracle) -> None:
    tokens = encode("the question")
    free, logits = oracle.forward(tokens)
    other = np.setdiff1d(np.arange(16), free[2].ids[1])[:4]
    forced, other_logits = oracle.forward(tokens, {2: {1: other}})
    assert set(forced[2].ids[1]) == set(other)
    assert (forced[2].ids[0] == free[2].ids[0]).all()
    assert np.abs(logits - other_logits).max() > 0


def test_tokens_are_those_of_the_library() -> None:
    folder = torch_model(EXACT["olmoe"])
    texts = [SHARED, "<|user|>  two  spaces\n\nit's 12ab !?;: <|assistant|>", "prefixes"]
    library = ("import json, sys; from tokenizers import Tokenizer; "
               "t = Tokenizer.from_file(sys.argv[1]); "
               "print(json.dumps([t.encode(x).ids for x in json.load(sys.stdin)]))")
    done = subprocess.run([str(PYTHON), "-c", library, str(folder / "tokenizer.json")],
                          input=json.dumps(texts), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [encode(text) for text in texts]
