"""Text rows: T1 (one sentence) and T3 (every id the same)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench import bundles, data
from bench.measure import Claim, Group
from edgekit import clock
from edgekit.inputs import preparer
from edgekit.specs.text import TextSpec, TokenizerFile

SENTENCE = "A photo of a small dog sleeping on the sofa."
LINES = 20_000


def spec() -> TextSpec:
    """BERT's three arrays for one text."""
    return TextSpec(
        kind="text",
        ids="input_ids",
        mask="attention_mask",
        type_ids="token_type_ids",
        tokenizer=TokenizerFile(type="tokenizer_json", file="tokenizer.json", add_special_tokens=True),
        lowercase=False,
        max_length=512,
        truncation="right",
        padding="longest",
        pad_side="right",
        pad_id=0,
        dtype="int64",
    )


def sentence() -> Iterator[Group]:
    """T1: one short sentence -> ids, mask and type ids."""
    file = data.tokenizer_file()
    if file is None:
        return
    import onnxruntime
    import onnxruntime_extensions
    from onnx import TensorProto, helper
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    content = file.read_bytes()
    made = preparer(spec(), bundles.LIMITS, lambda name: content)
    fast = PreTrainedTokenizerFast(tokenizer_file=str(file))
    plain = Tokenizer.from_buffer(content)
    plain.no_padding()
    plain.no_truncation()

    def ours(text: str = SENTENCE) -> Any:
        return made(text, clock.start({})).values

    def bare(text: str = SENTENCE) -> Any:
        e = plain.encode(text)
        rows = {"input_ids": e.ids, "attention_mask": e.attention_mask, "token_type_ids": e.type_ids}
        return {name: np.array([row], np.int64) for name, row in rows.items()}

    def hugging(text: str = SENTENCE) -> Any:
        return fast([text], return_tensors="np", return_token_type_ids=True)

    vocabulary = json.loads(content)["model"]["vocab"]
    words = "\n".join(sorted(vocabulary, key=vocabulary.__getitem__))
    node = helper.make_node(
        "BertTokenizer",
        ["text"],
        ["ids", "types", "mask"],
        domain="ai.onnx.contrib",
        vocab_file=words,
        do_lower_case=1,
    )
    graph = helper.make_graph(
        [node],
        "tokenizer",
        [helper.make_tensor_value_info("text", TensorProto.STRING, [1])],
        [helper.make_tensor_value_info(name, TensorProto.INT64, [None]) for name in ("ids", "types", "mask")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.contrib", 1)]
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    session = onnxruntime.InferenceSession(
        helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString(), options
    )
    variants = {
        "ours": ours,
        "transformers": hugging,
        "tokenizers and three arrays": bare,
        "onnxruntime-extensions": lambda: session.run(None, {"text": np.array([SENTENCE])}),
        "tokenizers, ids alone": lambda: plain.encode(SENTENCE).ids,
    }

    def difference(a: str, b: str) -> str:
        if b == "onnxruntime-extensions":
            same = session.run(None, {"text": np.array([SENTENCE])})[0].tolist() == ours()["input_ids"][0].tolist()
            return "ids equal" if same else "ids differ"
        reference = hugging if b == "transformers" else bare
        wrong = sum(_differs(ours(line), reference(line)) for line in data.lines(LINES))
        return f"{wrong} of {LINES} lines differ"

    floor = "tokenizers, ids alone"
    claims = [
        Claim("T1 sentence", "ours", "transformers", 0.40, 0.40, floor),
        Claim("T1 sentence", "ours", "tokenizers and three arrays", None, None, floor),
        Claim("T1 sentence", "ours", "onnxruntime-extensions", None, None, floor),
    ]
    yield Group("sentence", variants, claims, difference, "µs")


def _differs(a: Any, b: Any) -> bool:
    return any(not np.array_equal(a[name], b[name]) for name in ("input_ids", "attention_mask", "token_type_ids"))
