"""Makes text.json and text.npz: what transformers writes by beam search, and what small models of its own write.

    python -m venv referee
    referee/bin/pip install torch==2.13.0 "optimum-onnx[onnxruntime]==0.1.0" transformers==4.57.6 sentence-transformers
    referee/bin/python tests/golden/make_text_golden.py

beams: texts of a model whose logits are a drawn table of the last two tokens (`table`), by the ways of KINDS.
folders: exports of untrained models (T5, BART, GPT-2, Llama), their configs, and the ids that `generate` gives.
poolings: token states under masks, and what sentence-transformers' Pooling and Dense make of them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
VOCABULARY, START, LIMIT, SEEDS = 24, 4, 16, 8
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"num_beams": 3},
    "two": {"num_beams": 2, "max_length": 9},
    "full": {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True},
    "never": {"num_beams": 5, "length_penalty": 0.0, "early_stopping": "never"},
    "never_long": {"num_beams": 3, "length_penalty": 1.5, "early_stopping": "never"},
    "short": {"num_beams": 4, "length_penalty": -1.0},
    "ngram": {"num_beams": 3, "no_repeat_ngram_size": 2, "min_length": 8},
    "repetition": {"num_beams": 4, "repetition_penalty": 1.3, "renormalize_logits": True},
    "forced": {"num_beams": 2, "forced_bos_token_id": 5, "forced_eos_token_id": 1},
    "three_ends": {"num_beams": 3, "eos_token_id": [1, 2, 3]},
    "banned": {"num_beams": 3, "bad_words_ids": [[7], [8], [1]], "suppress_tokens": [9], "begin_suppress_tokens": [10]},
}
TEXTS = ["the red cat", "a dog on the road sees a cat", "road", "the the the dog"]
WORDS = ["<pad>", "</s>", "<unk>", "<s>"]
WORDS += [
    "the", "a", "cat", "dog", "red", "car", "on", "road", "sees", "is", "old", "new", "house", "tree", "sky", "runs",
    "sleeps", "big", "small", "and",
]  # fmt: skip
WORDS += [f"word{n}" for n in range(64 - len(WORDS))]
FOLDERS = ("t5", "t5_beams", "bart_beams", "gpt2", "llama")
POOLINGS: dict[str, list[str]] = {
    "sqrt": ["mean_sqrt_len_tokens"],
    "weighted": ["weightedmean_tokens"],
    "all": ["cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"],
    "dense": ["mean_tokens"],
}
WIDTH = 6


def table(seed: int) -> np.ndarray:
    """logits[a, b] of the token after a, b."""
    rng = np.random.RandomState(seed)
    logits = (rng.standard_normal((VOCABULARY, VOCABULARY, VOCABULARY)) * 2).astype(np.float32)
    logits[:, :, 1] += 1.0
    return logits


def states() -> tuple[np.ndarray, np.ndarray]:
    """(rows, tokens, width) and their masks, padded on the right."""
    rng = np.random.RandomState(5)
    mask = (np.arange(7) < np.array([[7], [3], [1]])).astype(np.int64)
    return rng.standard_normal((3, 7, WIDTH)).astype(np.float32), mask


def dense() -> tuple[np.ndarray, np.ndarray]:
    """A weight (4, width) and its bias."""
    rng = np.random.RandomState(6)
    return rng.standard_normal((4, WIDTH)).astype(np.float32), rng.standard_normal(4).astype(np.float32)


def _beams() -> dict[str, list[list[int]]]:
    import torch
    from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import CausalLMOutput

    class Table(PreTrainedModel, GenerationMixin):
        config_class = PretrainedConfig
        main_input_name = "input_ids"

        def __init__(self, seed: int) -> None:
            super().__init__(
                PretrainedConfig(vocab_size=VOCABULARY, eos_token_id=1, pad_token_id=0, bos_token_id=START)
            )
            self.logits = torch.nn.Parameter(torch.from_numpy(table(seed)))

        def prepare_inputs_for_generation(self, input_ids: Any, **_: Any) -> dict[str, Any]:
            return {"input_ids": input_ids}

        def forward(self, input_ids: Any, **_: Any) -> Any:
            before = torch.cat([torch.full_like(input_ids[:, :1], START), input_ids[:, :-1]], 1)
            return CausalLMOutput(logits=self.logits[before, input_ids])

    found = {}
    for name, kind in KINDS.items():
        rows = []
        for seed in range(SEEDS):
            model = Table(seed).eval()
            kwargs = {"max_length": LIMIT, "do_sample": False, **kind}
            rows.append(model.generate(torch.tensor([[START]]), use_cache=False, **kwargs)[0].tolist())
        found[name] = rows
    return found


def _tokenizer(end: bool) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if end:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<s>"
    )


def _models() -> dict[str, tuple[Any, dict[str, Any]]]:
    import transformers as t

    same = {"vocab_size": len(WORDS), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 3}
    t5 = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0, **same}
    bart = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 40,
            "decoder_start_token_id": 1, "forced_bos_token_id": 3, "forced_eos_token_id": 1, **same}  # fmt: skip
    llama = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
             "intermediate_size": 16, "max_position_embeddings": 64, **same}  # fmt: skip
    gpt2 = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 48, **same}
    long = {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True, "no_repeat_ngram_size": 3, "min_length": 6,
            "max_length": 22}  # fmt: skip
    return {
        "t5": (t.T5ForConditionalGeneration(t.T5Config(**t5)), {}),
        "t5_beams": (t.T5ForConditionalGeneration(t.T5Config(**t5)), {"num_beams": 3, "max_new_tokens": 12}),
        "bart_beams": (t.BartForConditionalGeneration(t.BartConfig(**bart)), long),
        "gpt2": (t.GPT2LMHeadModel(t.GPT2Config(**gpt2)), {"max_new_tokens": 12, "repetition_penalty": 1.2}),
        "llama": (t.LlamaForCausalLM(t.LlamaConfig(**llama)), {"max_new_tokens": 10, "num_beams": 3}),
    }


def _folders(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    import torch
    from optimum.exporters.onnx import main_export

    found = {}
    for index, (name, (model, ways)) in enumerate(_models().items()):
        draw = torch.Generator().manual_seed(index)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.copy_(torch.randn(weight.shape, generator=draw) * 0.9)
        model.eval()
        for key, value in ways.items():
            setattr(model.generation_config, key, value)
        alone = name in ("gpt2", "llama")
        tokenizer = _tokenizer(end=not alone)
        ids = []
        for text in TEXTS:
            given = {k: v for k, v in tokenizer(text, return_tensors="pt").items() if k != "token_type_ids"}
            ids.append(model.generate(**given)[0].tolist())
        with tempfile.TemporaryDirectory() as scratch:
            source, made = Path(scratch) / "source", Path(scratch) / "made"
            model.save_pretrained(source)
            tokenizer.save_pretrained(source)
            task = "text-generation-with-past" if alone else "text2text-generation-with-past"
            main_export(str(source), output=str(made), task=task, library_name="transformers", do_validation=False)
            files = {p.name: json.loads(p.read_text()) for p in sorted(made.glob("*.json"))}
            for graph in sorted(made.glob("*.onnx")):
                if graph.name not in ("decoder_model.onnx", "decoder_with_past_model.onnx"):
                    arrays[f"{name}/{graph.name}"] = np.frombuffer(_lean(graph), np.uint8)
        texts = [tokenizer.decode(row, skip_special_tokens=True) for row in ids]
        found[name] = {"files": files, "ids": ids, "texts": texts}
    return found


def _lean(path: Path) -> bytes:
    """The graph without what only people read."""
    import onnx

    model = onnx.load(path)
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        del graph.value_info[:]
        for number, node in enumerate(graph.node):
            node.name, node.doc_string = f"n{number}", ""
            del node.metadata_props[:]
            graphs += [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return bytes(model.SerializeToString())


def _poolings() -> dict[str, Any]:
    import torch
    from sentence_transformers.models import Dense, Pooling

    tokens, mask = states()
    found = {}
    for name, modes in POOLINGS.items():
        pooling = Pooling(WIDTH, **{f"pooling_mode_{m}": m in modes for m in POOLINGS["all"]})
        given = {"token_embeddings": torch.from_numpy(tokens.copy()), "attention_mask": torch.from_numpy(mask)}
        made = pooling(given)
        if name == "dense":
            layer = Dense(WIDTH, 4)
            layer.linear.weight.data, layer.linear.bias.data = map(torch.from_numpy, dense())
            made = layer(made)
        found[name] = [[round(float(x), 6) for x in row] for row in made["sentence_embedding"].detach()]
    return found


def main() -> None:
    arrays: dict[str, np.ndarray] = {}
    answers = {"beams": _beams(), "folders": _folders(arrays), "poolings": _poolings()}
    (HERE / "text.json").write_text(json.dumps(answers, separators=(",", ":")) + "\n", "utf-8")
    np.savez_compressed(HERE / "text.npz", **arrays)
    for name in ("text.json", "text.npz"):
        print(name, (HERE / name).stat().st_size, "bytes")


if __name__ == "__main__":
    main()
