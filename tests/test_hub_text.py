"""Promise: folders that write text from text, with an encoder or without, write what transformers' generate writes, by
beams too; sentence-transformers' modules give its embeddings (issue 3: generation, import)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from decoders import TOY, write_decoder_only
from decoding import CHOICE
from golden.make_text_golden import (
    FOLDERS,
    KINDS,
    LIMIT,
    POOLINGS,
    SEEDS,
    START,
    TEXTS,
    WIDTH,
    dense,
    states,
    table,
)
from hub_models import TOKENIZER, TOKENIZER_CONFIG, drawn, save, states_graph, write_folder

from edgekit.cli import main
from edgekit.errors import InputError
from edgekit.generation.beams import search
from edgekit.generation.loop import Standing
from edgekit.generation.token_choice import Bounds, rules
from edgekit.packaging.hf_settings import Settings, read_choice, read_lengths
from edgekit.packaging.hub_folder import HubFolder
from edgekit.predictor import Predictor, load

GOLDEN = Path(__file__).parent / "golden"
TRUTH = json.loads((GOLDEN / "text.json").read_text("utf-8"))


def run(folder: Path, *options: str) -> Any:
    output = folder.parent / f"{folder.name}.edgekit"
    return CliRunner().invoke(main, ["package", str(folder), "--target", "linux-x86_64", "-o", str(output), *options])


def packed(folder: Path, *options: str) -> Predictor:
    result = run(folder, *options)
    assert result.exit_code == 0, result.output
    return load(folder.parent / f"{folder.name}.edgekit", text_memory=0)


def folder_of(name: str, path: Path, **changes: dict[str, Any]) -> Path:
    """A folder of the golden file; changes: of its configs, by name without `.json`."""
    files = TRUTH["folders"][name]["files"]
    path.mkdir(parents=True)
    for file, content in files.items():
        (path / file).write_text(json.dumps({**content, **changes.get(file.removesuffix(".json"), {})}))
    with np.load(GOLDEN / "text.npz") as arrays:
        for key in arrays.files:
            if key.startswith(f"{name}/"):
                (path / key.split("/")[1]).write_bytes(arrays[key].tobytes())
    return path


def settings_of(generation: dict[str, Any], config: dict[str, Any] | None = None) -> Settings:
    empty: dict[str, Any] = {key: {} for key in HubFolder._fields}
    return Settings(HubFolder(**{**empty, "name": "made", "generation": generation, "config": config or {}}))


# ---- beams


@pytest.mark.parametrize("kind", list(KINDS))
def test_beams_are_those_of_transformers(kind: str) -> None:
    ways = {"max_length": LIMIT, "eos_token_id": 1, **KINDS[kind]}
    settings = settings_of(ways)
    choice, remarks = read_choice(settings, "")
    assert (choice.mode, remarks) == ("beam", ())
    bounds = Bounds(1, settings.tokens("eos_token_id"), int(ways.get("min_length", 0)), int(ways["max_length"]))
    different = set()
    for seed, want in enumerate(TRUTH["beams"][kind]):
        logits = table(seed)

        def grow(at: Standing | None, new: Sequence[int]) -> tuple[np.ndarray, Standing]:
            tokens = (*(at.tokens if at else (START,)), *new)
            return logits[tokens[-2], tokens[-1]].copy(), Standing({}, tokens, len(tokens))  # noqa: B023  # this seed's

        got = [START, *search(grow, choice, rules(choice, bounds, None, None), [START], bounds, None)]
        assert got == want, seed
        greedy = [START]
        while len(greedy) < len(want):
            greedy.append(int(logits[greedy[-2] if len(greedy) > 1 else START, greedy[-1]].argmax()))
        different.add(greedy != want)
    assert True in different, "the largest logit of each step gives the same: the test proves nothing"
    assert len(TRUTH["beams"][kind]) == SEEDS


def test_a_margin_is_that_of_the_whole_text() -> None:
    logits = table(0)
    seen: list[float] = []
    choice = CHOICE.replace(mode="beam", beams=3)

    def grow(at: Standing | None, new: Sequence[int]) -> tuple[np.ndarray, Standing]:
        tokens = (*(at.tokens if at else (START,)), *new)
        return logits[tokens[-2], tokens[-1]].copy(), Standing({}, tokens, len(tokens))

    found = search(grow, choice, [], [START], Bounds(1, (1,), 0, LIMIT), lambda row, margin: seen.append(margin))
    assert len(seen) == len(found)
    assert len(set(seen)) == 1
    assert seen[0] > 0


# ---- folders


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_writes_what_transformers_wrote(name: str, tmp_path: Path) -> None:
    truth = TRUTH["folders"][name]
    with packed(folder_of(name, tmp_path / name)) as predictor:
        alone = name in ("gpt2", "llama")
        assert predictor.manifest.task == ("text-generation" if alone else "text2text-generation")
        for text, ids, written in zip(TEXTS, truth["ids"], truth["texts"]):
            result = predictor.predict(text=text).to_dict()
            assert result["tokens"] == ids
            assert result["text"] == (written.removeprefix(text) if alone else written)
            assert "".join(predictor.generate(text=text)) == result["text"]
    assert len({tuple(ids) for ids in truth["ids"]}) > 1


def test_beams_may_be_asked_for_and_left_out(tmp_path: Path) -> None:
    """The same weights: T5 with three beams in its config and without."""
    with packed(
        folder_of("t5", tmp_path / "t5", generation_config={"num_beams": 3, "max_new_tokens": 12})
    ) as predictor:
        for text, ids in zip(TEXTS, TRUTH["folders"]["t5"]["ids"]):
            assert predictor.predict(text=text, mode="greedy").to_dict()["tokens"] == ids[:13]
            assert predictor.predict(text=text, beams=1).to_dict()["tokens"] == ids[:13]
    with packed(folder_of("gpt2", tmp_path / "gpt2")) as predictor:
        both = {tuple(predictor.predict(text=TEXTS[1], beams=n).to_dict()["tokens"]) for n in (1, 2, 5)}
        assert len(both) > 1
        with pytest.raises(InputError, match="beams: expected a whole number from 1 to 64, got 65"):
            predictor.predict(text="road", beams=65)


def test_a_text_that_is_drawn_has_a_golden_sample(tmp_path: Path) -> None:
    changes = {"generation_config": {"do_sample": True, "temperature": 0.8, "top_k": 20}}
    with packed(folder_of("gpt2", tmp_path / "drawn", **changes)) as predictor:
        assert predictor.manifest.generation is not None
        assert predictor.manifest.generation.choice.mode == "sample"
        assert predictor.manifest.golden[0].inputs[0]["mode"] == {"text": "greedy"}
        texts = {predictor.predict(text="the red cat", seed=seed).to_dict()["text"] for seed in range(4)}
        assert len(texts) > 1


def test_a_prompt_that_is_too_long_or_empty_is_refused(tmp_path: Path) -> None:
    with packed(folder_of("gpt2", tmp_path / "gpt2")) as predictor:
        with pytest.raises(InputError, match="at most 48 tokens, got 60"):
            predictor.predict(text="road " * 60)
        with pytest.raises(InputError, match="the text is empty"):
            predictor.predict(text="")


def test_a_text_of_relative_positions_is_never_cut(tmp_path: Path) -> None:
    with packed(folder_of("t5", tmp_path / "t5")) as predictor:
        spec = predictor.manifest.inputs["text"]
        assert (spec.max_length, spec.truncation) == (4096, "error")  # type: ignore[union-attr]  # a text
        assert predictor.trace(text="road " * 600)[1]["input_ids"].shape == (1, 601)
        with pytest.raises(InputError, match="at most 4096 tokens, got 5001"):
            predictor.predict(text="road " * 5000)


@pytest.mark.parametrize(
    ("generation", "words"),
    [
        ({"penalty_alpha": 0.6, "top_k": 4}, "asks for 'penalty_alpha' 0.6: not done here"),
        ({"num_beams": 4, "num_beam_groups": 2}, "asks for 'num_beam_groups' 2: not done here"),
        ({"bad_words_ids": [[3], [4, 5]]}, "1 entries of bad_words_ids have several tokens"),
        ({"num_beams": 2, "do_sample": True}, "beams that are drawn: the best ones are taken instead"),
    ],
)
def test_a_way_that_is_not_followed_is_said(generation: dict[str, Any], words: str, tmp_path: Path) -> None:
    result = run(folder_of("t5", tmp_path / "t5", generation_config=generation))
    assert result.exit_code == 0, result.output
    assert words in result.output


def test_a_number_of_beams_that_is_none_is_refused(tmp_path: Path) -> None:
    result = run(folder_of("t5", tmp_path / "t5", generation_config={"num_beams": 1000}))
    assert result.exit_code == 4
    assert "'num_beams': expected a whole number from 1 to 64, got 1000" in result.output


def test_generation_config_stands_alone_where_there_is_one() -> None:
    """GenerationConfig.from_pretrained does not look into config.json; without the file from_model_config does."""
    config = {"num_beams": 4, "min_length": 5, "max_length": 50, "decoder_start_token_id": 2}
    beside = settings_of({"eos_token_id": 1}, config)
    assert read_choice(beside, "")[0].beams == 1
    assert beside.whole("min_length") is None
    assert beside.tokens("decoder_start_token_id") == (2,)
    without = settings_of({}, config)
    assert read_choice(without, "")[0].beams == 4
    assert without.whole("min_length") == 5
    assert read_lengths(beside, 0)[:2] == (20, 20)
    assert read_lengths(without, 0)[:2] == (50, None)


def test_embeddings_may_have_a_graph_of_their_own(tmp_path: Path) -> None:
    """embed_tokens beside a decoder that takes embeddings; the truth is the runtime alone, all tokens read anew."""
    import onnxruntime

    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": TOY.positions,
              "vocab_size": TOY.vocabulary}  # fmt: skip
    folder = write_folder(tmp_path / "embeds", config, generation_config_json={"eos_token_id": 1, "max_new_tokens": 9})
    (folder / "tokenizer.json").write_text(json.dumps(TRUTH["folders"]["gpt2"]["files"]["tokenizer.json"]))
    write_decoder_only(folder, embeds=True)
    embed, decoder = (onnxruntime.InferenceSession(folder / f"{n}.onnx") for n in ("embed_tokens", "model"))
    empty = {i.name: np.zeros((1, TOY.heads, 0, TOY.width // TOY.heads), np.float32) for i in decoder.get_inputs()
             if i.name.startswith("past")}  # fmt: skip
    with packed(folder) as predictor:
        assert [g.name for g in predictor.manifest.graphs] == ["embedder", "decoder"]
        tokens = predictor.predict(text="the red cat").to_dict()["tokens"]
    want = tokens[:3]
    while len(want) < len(tokens):
        ids = np.array([want])
        feeds = {"inputs_embeds": embed.run(None, {"input_ids": ids})[0], "attention_mask": np.ones_like(ids),
                 "position_ids": np.arange(len(want))[None], **empty}  # fmt: skip
        want.append(int(decoder.run(["logits"], feeds)[0][0, -1].argmax()))
    assert tokens == want
    assert len(set(tokens)) > 3
    (folder / "embed_tokens.onnx").unlink()
    result = run(folder)
    assert result.exit_code == 4
    assert "the decoder takes 'inputs_embeds', and no graph makes them of tokens" in result.output


def test_a_lone_encoder_is_no_writer(tmp_path: Path) -> None:
    folder = folder_of("t5", tmp_path / "t5")
    (folder / "decoder_model_merged.onnx").unlink()
    result = run(folder)
    assert result.exit_code == 4
    assert "needs an encoder and a decoder of one kind; there is encoder_model" in result.output


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertForMaskedLM", "fill-mask"),
        ("BertForQuestionAnswering", "question-answering"),
        ("Owlv2ForObjectDetection", "zero-shot-object-detection"),
        ("CLIPSegForImageSegmentation", "image-segmentation"),
        ("SpeechT5ForTextToSpeech", "text-to-audio"),
    ],
)
def test_a_task_that_is_not_done_is_named(architecture: str, task: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "other", {"architectures": [architecture], "model_type": "some"})
    save(folder / "model.onnx", states_graph())
    result = run(folder)
    assert result.exit_code == 4
    assert f"{architecture} is for {task}, which is no task here" in result.output


def test_a_reader_of_pictures_and_texts_is_named(tmp_path: Path) -> None:
    config = {"architectures": ["Florence2ForConditionalGeneration"], "model_type": "florence2"}
    folder = write_folder(tmp_path / "florence", config)
    save(folder / "onnx" / "embed_tokens.onnx", states_graph())
    result = run(folder)
    assert result.exit_code == 4
    assert "is for image-text-to-text, which is no task here" in result.output


# ---- sentence-transformers' modules


def sentence_folder(path: Path, kind: str, **dense_config: Any) -> Path:
    modes = POOLINGS[kind]
    modules = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
    modules.append({"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"})
    if kind == "dense":
        modules.append({"type": "sentence_transformers.models.Dense", "path": "2_Dense"})
    pooling = {f"pooling_mode_{mode}": mode in modes for mode in POOLINGS["all"]}
    config = {"architectures": ["BertModel"], "model_type": "bert", "max_position_embeddings": 16}
    files = {"tokenizer_json": TOKENIZER, "tokenizer_config_json": TOKENIZER_CONFIG, "modules_json": modules}
    folder = write_folder(path, config, **files)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": WIDTH, **pooling}))
    if kind == "dense":
        (folder / "2_Dense").mkdir()
        known = {"in_features": WIDTH, "out_features": 4, "activation_function": "torch.nn.modules.activation.Tanh"}
        (folder / "2_Dense" / "config.json").write_text(json.dumps({**known, **dense_config}))
        weight, bias = dense()
        entries = {
            "linear.weight": {"dtype": "F32", "shape": [4, WIDTH], "data_offsets": [0, weight.nbytes]},
            "linear.bias": {"dtype": "F32", "shape": [4], "data_offsets": [weight.nbytes, weight.nbytes + bias.nbytes]},
        }
        header = json.dumps(entries).encode()
        data = len(header).to_bytes(8, "little") + header + weight.tobytes() + bias.tobytes()
        (folder / "2_Dense" / "model.safetensors").write_bytes(data)
    return folder


@pytest.mark.parametrize("kind", list(POOLINGS))
def test_poolings_side_by_side_and_dense_layers(kind: str, tmp_path: Path) -> None:
    """The graph that is made, on the states and masks whose embeddings sentence-transformers computed."""
    import onnxruntime

    folder = sentence_folder(tmp_path / kind, kind)
    save(folder / "model.onnx", masked_states_graph())
    with packed(folder) as predictor:
        assert [g.name for g in predictor.manifest.graphs] == ["model", "head"]
        session = onnxruntime.InferenceSession(predictor.read("sentence_head.onnx"))
        tokens, mask = states()
        made = session.run(None, {"last_hidden_state": tokens, "attention_mask": mask})[0]
        assert np.abs(made - np.array(TRUTH["poolings"][kind])).max() < 2e-6
        result, values = predictor.trace(text="wolfgang lives in berlin")
        own = session.run(None, {"last_hidden_state": values["last_hidden_state"],
                                 "attention_mask": values["attention_mask"]})[0]  # fmt: skip
        assert np.abs(np.asarray(result.to_dict()["embedding"]) - own[0]).max() < 1e-6


def masked_states_graph() -> bytes:
    """last_hidden_state = e[input_ids] * attention_mask."""
    from graphs import info, node, onnx_bytes

    nodes = [
        node("Gather", ["e", "input_ids"], ["states"]),
        node("Cast", ["attention_mask"], ["real"], to=1),
        node("Unsqueeze", ["real", "axis"], ["wide"]),
        node("Mul", ["states", "wide"], ["last_hidden_state"]),
    ]
    inputs = [info(name, ["batch", "tokens"], "INT64") for name in ("input_ids", "attention_mask")]
    outputs = [info("last_hidden_state", ["batch", "tokens", WIDTH])]
    return bytes(onnx_bytes(nodes, inputs, outputs, {"e": drawn(32, WIDTH), "axis": np.array([2])}))


def test_modules_that_cannot_be_followed_are_named(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "wide", "dense", out_features=5)
    save(folder / "model.onnx", masked_states_graph())
    assert "expected a weight of [5, 6], as its config.json says, got [4, 6]" in run(folder).output
    folder = sentence_folder(tmp_path / "odd", "dense", activation_function="torch.nn.modules.activation.Mish")
    save(folder / "model.onnx", masked_states_graph())
    assert "activation_function Mish: not one of Identity, Tanh" in run(folder).output
    folder = sentence_folder(tmp_path / "bare", "dense")
    (folder / "2_Dense" / "model.safetensors").unlink()
    save(folder / "model.onnx", masked_states_graph())
    assert "the Dense layer's weights are missing" in run(folder).output
    folder = sentence_folder(tmp_path / "cut", "dense")
    cut = folder / "2_Dense" / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:40])
    save(folder / "model.onnx", masked_states_graph())
    assert "model.safetensors: not readable" in run(folder).output
    folder = sentence_folder(tmp_path / "maskless", "weighted")
    save(folder / "model.onnx", states_graph(WIDTH))
    assert "the graph gives no states of tokens with a mask" in run(folder).output
