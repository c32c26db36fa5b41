"""Issue 3: encoder-decoder folders are packaged with no hand-written line and write what transformers 4.57 wrote; what
contradicts itself or is missing is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoders import MERGED, Size, write_merged, write_split

from edgekit import results
from edgekit.errors import InputError
from edgekit.golden import MARGINS, check, compare_results, run_sample
from edgekit.packaging.build import build
from edgekit.packaging.hf_speech import read_speech
from edgekit.packaging.huggingface import read_huggingface
from edgekit.predictor import Predictor, load
from edgekit.targets import find_target

VARIANTS = ("fp32", "fp16", "quantized", "q4")
NEW = 24
Pack = Callable[..., Predictor]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pack]:
    """Packages a folder's variant and loads the bundle, once each."""
    folder, target = tmp_path_factory.mktemp("bundles"), find_target("linux-x86_64")
    kept: dict[tuple[Path, str | None], Predictor] = {}

    def open_folder(path: Path, variant: str | None = None) -> Predictor:
        if (path, variant) not in kept:
            draft = read_huggingface(path, target, variant=variant, task=None, answers={})
            output = folder / f"{len(kept)}.edgekit"
            build(draft, target, output)
            kept[path, variant] = load(output)
        return kept[path, variant]

    yield open_folder
    for predictor in kept.values():
        predictor.close()


def plain_whisper(folder: Path, variant: str, features: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Tokens after the prompt 1 2 3 4, and the first logits, by onnxruntime alone."""
    import onnxruntime

    def session(name: str) -> Any:
        suffix = "" if variant == "fp32" else f"_{variant}"
        path = folder / "onnx" / f"{name}{suffix}.onnx"
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", "1")
        return onnxruntime.InferenceSession(str(path if path.exists() else folder / "onnx" / f"{name}.onnx"), options)

    encoder, decoder = session("encoder_model"), session("decoder_model_merged")
    states = encoder.run(None, {"input_features": features})[0]
    names = [t.name for t in decoder.get_outputs()]
    past = {t.name: np.zeros((1, 4, 0, 8), np.float32) for t in decoder.get_inputs() if t.name.startswith("past")}
    tokens, new, first = list[int](), [[1, 2, 3, 4]], np.zeros(0)
    for step in range(NEW):
        feeds = {"input_ids": np.array(new), "encoder_hidden_states": states, "use_cache_branch": np.array([step > 0])}
        made = dict(zip(names, decoder.run(None, {**feeds, **past})))
        first = made["logits"][0, -1] if step == 0 else first
        tokens.append(int(made["logits"][0, -1].argmax()))
        new = [[tokens[-1]]]
        for name in past:
            if step == 0 or ".decoder." in name:
                past[name] = made[name.replace("past_key_values", "present")]
    return tokens, first


@pytest.mark.parametrize("variant", VARIANTS)
def test_whisper_writes_what_transformers_wrote(
    shared: Path, pack: Pack, variant: str, record_property: Callable[[str, object], None]
) -> None:
    """float32: the very tokens and text. Others: those of the same files run by onnxruntime alone; the deviation of the
    first logits from float32's is reported (random weights: int4 is far off whoever runs it)."""
    case = shared / "zoo" / "whisper"
    expected, sound = np.load(case / "expected.npz"), str(shared / "zoo" / "inputs" / "jfk_16k.wav")
    predictor = pack(case / "model", variant)
    result, values = predictor.trace(audio=sound, language="en", task="transcribe", max_new_tokens=NEW)
    assert isinstance(result, results.Transcript)
    features = expected["jfk_16k.wav/input_features"]
    assert np.abs(values["input_features"] - features).max() <= 1e-4
    tokens, logits = plain_whisper(case / "model", variant, features)
    _, plain = plain_whisper(case / "model", "fp32", features)
    record_property("deviation of the first logits", float(np.abs(logits - plain).max() / np.abs(plain).max()))
    assert np.abs(values["logits"][0] - logits).max() <= 1e-3 * np.abs(logits).max()
    assert result.tokens == tokens
    if variant in ("fp32", "fp16", "quantized"):
        assert result.tokens == expected["jfk_16k.wav/generated_ids"][0].tolist()
        assert result.text == str(expected["jfk_16k.wav/text"])
    assert "".join(predictor.generate(audio=sound, max_new_tokens=NEW)) == result.text
    assert result.timestamps == []


def test_trocr_writes_what_transformers_wrote(shared: Path, pack: Pack) -> None:
    case = shared / "zoo" / "trocr"
    expected = np.load(case / "expected.npz")
    predictor = pack(case / "model")
    for picture in ("cat.png", "rocket.jpg"):
        path = str(shared / "zoo" / "inputs" / picture)
        result, values = predictor.trace(image=path, max_length=20)
        assert isinstance(result, results.Text)
        assert np.abs(values["pixel_values"] - expected[f"{picture}/pixel_values"]).max() <= 1e-6
        assert result.tokens == expected[f"{picture}/generated_ids"][0].tolist()
        assert result.text == str(expected[f"{picture}/text"])
        assert "".join(predictor.generate(image=path, max_length=20)) == result.text
        assert len(predictor.predict(image=path).to_dict()["tokens"]) == 24, "generation_config.json's max_length"


def test_a_batch_is_one_text_after_another(shared: Path, pack: Pack) -> None:
    predictor = pack(shared / "zoo" / "trocr" / "model")
    items = [{"image": str(shared / "zoo" / "inputs" / p), "max_length": 9} for p in ("cat.png", "rocket.jpg")]
    assert predictor.predict_batch(items) == [predictor.predict(**item) for item in items]


@pytest.mark.parametrize("case", ["whisper", "trocr"])
def test_the_golden_sample_travels_with_tokens_and_margins(shared: Path, pack: Pack, case: str) -> None:
    predictor = pack(shared / "zoo" / case / "model")
    report = check(predictor)
    assert report.passed, str(report)
    sample = predictor.manifest.golden[0]
    assert len(sample.result[MARGINS]) == len(sample.result["tokens"]) - (case == "trocr")
    assert {d.what for d in report.deviations} >= {"logits", "encoder_hidden_states", "result"}


def test_tokens_may_differ_only_where_the_margin_is_small(shared: Path, pack: Pack) -> None:
    """DESIGN: generated ids are compared with the fixed logits' margin in mind."""
    predictor = pack(shared / "zoo" / "trocr" / "model")
    sample = predictor.manifest.golden[0]
    want, _ = run_sample(predictor, sample.inputs, predictor.read)
    margins, tokens = want[MARGINS], want["tokens"]
    weak = int(np.argmin(margins))
    for place, passed in ((weak, True), (int(np.argmax(margins)), False)):
        got = json.loads(json.dumps(want))
        got["tokens"][place + 1 :] = [5] * (len(tokens) - place - 1)
        got["tokens"][place + 1] = tokens[place + 1] + 1
        got["text"] = "other"
        deviation = compare_results("s", want, got, margins[weak] * 1.01)
        assert (deviation.passed, deviation.difference) == (passed, margins[place])
    assert compare_results("s", want, {**want, "text": "other"}, 0.05).passed is False


# ---- folders made here: the zoo's encoder and configs, decoders of decoders.py

WIDE = Size(vocabulary=900, width=32, heads=4, layers=2, positions=64, wide=0.7)


@pytest.fixture(scope="module")
def made(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    source = shared / "zoo" / "whisper" / "model"
    base = tmp_path_factory.mktemp("made")

    def make(name: str, graphs: tuple[str, ...], **changes: dict[str, Any]) -> Path:
        """A folder; changes: config file's stem -> keys that replace its own, None takes one out."""
        folder = base / name
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("onnx"))
        shutil.copyfile(source / "onnx" / "encoder_model.onnx", folder / "encoder_model.onnx")
        size = WIDE._replace(vocabulary=changes.pop("size", {}).get("vocabulary", WIDE.vocabulary))
        write_split(folder, size)
        write_merged(folder, size)
        for path in folder.glob("decoder*.onnx"):
            if path.name not in graphs:
                path.unlink()
        for stem, keys in changes.items():
            path = folder / f"{stem}.json"
            document = {**json.loads(path.read_text("utf-8")), **keys}
            path.write_text(json.dumps({k: v for k, v in document.items() if v is not None}), "utf-8")
        return folder

    return make


def test_merged_split_and_cacheless_folders_write_the_same(shared: Path, made: Callable[..., Path], pack: Pack) -> None:
    split = ("decoder_model.onnx", "decoder_with_past_model.onnx")
    sound = str(shared / "zoo" / "inputs" / "jfk_16k.wav")
    found = []
    for name, graphs in (("merged", (MERGED,)), ("split", split), ("cacheless", split[:1])):
        predictor = pack(made(name, graphs))
        assert len(predictor.manifest.graphs) == 1 + len(graphs)
        found.append(predictor.predict(audio=sound, max_new_tokens=40))
    assert found[0] == found[1] == found[2]
    assert len(set(found[0].to_dict()["tokens"])) > 5


STAMPED = Size(vocabulary=60 + 1501, width=32, heads=4, layers=2, positions=64, wide=0.7)


@pytest.fixture(scope="module")
def stamped(made: Callable[..., Path]) -> Path:
    """A multilingual folder with timestamps: tokens 4-9 special, 10-59 words, from 60 on times."""
    from tokenizers import AddedToken, Tokenizer, decoders, models

    words = {f"w{i}": i for i in range(60 + 1501)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.decoder = decoders.Fuse()
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    for place, text in zip((0, 1, 2, 3, 4, 59), special):
        words = {(text if i == place else w): i for w, i in words.items()}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w5"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special])
    generation = {
        "lang_to_id": {"<|en|>": 2, "<|de|>": 3}, "task_to_id": {"transcribe": 4}, "no_timestamps_token_id": 59,
        "is_multilingual": True, "max_initial_timestamp_index": 50, "max_length": 64, "suppress_tokens": [5, 6],
        "forced_decoder_ids": [[1, None], [2, 4]],
    }  # fmt: skip
    folder = made(
        "stamped", (MERGED,), size={"vocabulary": STAMPED.vocabulary}, config={"vocab_size": STAMPED.vocabulary},
        generation_config=generation,
    )  # fmt: skip
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_timestamps_come_in_pairs_and_make_segments(shared: Path, stamped: Path, pack: Pack) -> None:
    predictor = pack(stamped)
    sound = str(shared / "zoo" / "inputs" / "jfk_16k.wav")
    result = predictor.predict(audio=sound, language="de", timestamps=True)
    assert isinstance(result, results.Transcript)
    times = [t for t in result.tokens if t >= 60]
    assert result.tokens[0] >= 60
    assert times == sorted(times)
    assert not {0, 5, 6, 59} & set(result.tokens[:-1])
    assert result.timestamps
    assert "".join(s["text"] for s in result.timestamps) == result.text
    assert result.timestamps[0]["start"] == pytest.approx((result.tokens[0] - 60) * 0.02)
    assert "".join(predictor.generate(audio=sound, language="de", timestamps=True)) == result.text
    assert predictor.predict(audio=sound, language="de").to_dict()["timestamps"] == []


def test_languages_change_the_prompt_and_are_found_out(shared: Path, stamped: Path, pack: Pack) -> None:
    predictor = pack(stamped)
    sound = str(shared / "zoo" / "inputs" / "jfk_16k.wav")
    texts = {word: predictor.predict(audio=sound, language=word) for word in ("en", "de")}
    assert texts["en"] != texts["de"]
    assert predictor.predict(audio=sound) in texts.values(), "nothing said: the model finds the language"
    with pytest.raises(InputError, match="language: this model does not know 'fr'") as error:
        predictor.predict(audio=sound, language="fr")
    assert "de, en" in str(error.value.hint)
    with pytest.raises(InputError, match="task: this model does not know 'translate'"):
        predictor.predict(audio=sound, task="translate")


@pytest.mark.parametrize("timestamps", [False, True])
def test_a_long_sound_is_heard_in_windows(shared: Path, stamped: Path, pack: Pack, timestamps: bool) -> None:
    """70 s: windows of 30 s that begin every 20 s."""
    import wave

    predictor = pack(stamped)
    chunks = predictor.manifest.generation.chunks  # type: ignore[union-attr]
    assert (chunks.window, chunks.stride) == (480_000, 80_000)  # type: ignore[union-attr]
    with wave.open(str(shared / "zoo" / "inputs" / "jfk_16k.wav")) as file:
        once = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    sound = np.resize(once, 70 * 16000)
    options = {"language": "en", "timestamps": timestamps, "max_new_tokens": 20}
    result, values = predictor.trace(audio=(sound, 16000), **options)
    assert isinstance(result, results.Transcript)
    assert len(values["token_margins"]) == result.timings["generate.tokens"] > 3 * 15
    assert "".join(predictor.generate(audio=(sound, 16000), **options)) == result.text
    starts = [s["start"] for s in result.timestamps if s["start"] is not None]
    assert starts == sorted(starts)
    assert bool(starts) == timestamps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: expected a whole number"),
        ({"max_new_tokens": 1.5}, "max_new_tokens: expected a whole number"),
        ({"max_new_tokens": 63}, "max_new_tokens: expected at most 60 after a prompt of 4, got 63"),
        ({"temperature": 0.0}, "temperature: expected"),
        ({"temperature": "hot"}, "temperature: expected a number"),
        ({"top_p": 1.5}, "top_p: expected 0.0 to 1.0"),
        ({"top_k": -1}, "top_k: expected"),
        ({"seed": -1}, "seed: expected"),
        ({"mode": "beams"}, "mode: expected greedy, sample, beam, got 'beams'"),
        ({"timestamps": True}, "takes audio=; got timestamps"),
        ({"beams": 0}, "beams: expected a whole number from 1 to 64, got 0"),
        ({"beams": 4, "mode": "greedy"}, "beams: expected mode 'beam' with it"),
    ],
)
def test_an_option_out_of_range_is_refused(shared: Path, pack: Pack, options: dict[str, Any], message: str) -> None:
    predictor = pack(shared / "zoo" / "whisper" / "model", "fp32")
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        predictor.predict(audio=(np.ones(16000, np.float32), 16000), **options)


def test_draws_differ_and_a_seed_repeats(shared: Path, pack: Pack) -> None:
    predictor = pack(shared / "zoo" / "trocr" / "model")
    picture = str(shared / "zoo" / "inputs" / "cat.png")
    drawn = [predictor.predict(image=picture, seed=seed, temperature=2.0) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_silence_and_a_short_sound(shared: Path, pack: Pack) -> None:
    """Silence is the empty transcript; a sound shorter than the window is filled up with zeros, as Whisper's is."""
    predictor = pack(shared / "zoo" / "whisper" / "model", "fp32")
    quiet = predictor.predict(audio=(np.zeros(16000, np.float32), 16000)).to_dict()
    assert (quiet["text"], quiet["tokens"], quiet["timestamps"]) == ("", [], [])
    assert predictor.predict(audio=(np.ones(1, np.float32), 16000)).to_dict()["tokens"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generation_config": {"decoder_start_token_id": None, "bos_token_id": None},
          "config": {"decoder_start_token_id": None, "bos_token_id": None}}, "no decoder_start_token_id"),
        ({"config": {"vocab_size": 901}}, "config.json has a vocabulary of 901, .* gives 900 logits"),
        ({"generation_config": {"suppress_tokens": [900]}}, "suppress_tokens: token 900 is beyond the vocabulary"),
        ({"generation_config": {"eos_token_id": "end"}}, "'eos_token_id': expected tokens"),
        ({"generation_config": {"max_length": "long"}}, "'max_length': expected a whole number"),
        ({"generation_config": {"repetition_penalty": 0.0}}, "repetition_penalty"),
        ({"generation_config": {"language": "xx"}}, "'language' 'xx' is not in lang_to_id"),
    ],
)  # fmt: skip
def test_a_config_that_contradicts_itself_is_refused(
    made: Callable[..., Path], changes: dict[str, Any], message: str, request: pytest.FixtureRequest
) -> None:
    folder = made(f"bad-{abs(hash(request.node.name))}", (MERGED,), **changes)
    with pytest.raises(InputError, match=message):
        read_huggingface(folder, find_target("linux-x86_64"), variant=None, task=None, answers={})


def test_what_is_missing_is_named(made: Callable[..., Path]) -> None:
    target = find_target("linux-x86_64")

    def refused(folder: Path, variant: str | None = None) -> str:
        with pytest.raises(InputError) as error:
            read_huggingface(folder, target, variant=variant, task=None, answers={})
        return str(error.value)

    folder = made("without", (MERGED,))
    assert "there is" not in refused(folder, "int4")
    assert "fp32" in refused(folder, "int4")
    (folder / "tokenizer.json").rename(folder / "elsewhere")
    assert "tokenizer.json is missing" in refused(folder)
    (folder / "elsewhere").rename(folder / "tokenizer.json")
    (folder / "encoder_model.onnx").unlink()
    message = refused(folder)
    assert "needs an encoder and a decoder" in message
    assert "decoder_model_merged" in message
    later = made("later", ("decoder_with_past_model.onnx",))
    assert "needs an encoder and a decoder" in refused(later)


MULTILINGUAL = {
    "lang_to_id": {"<|en|>": 50259, "<|de|>": 50261},
    "task_to_id": {"transcribe": 50359, "translate": 50358},
    "no_timestamps_token_id": 50363,
    "is_multilingual": True,
    "forced_decoder_ids": [[1, None], [2, 50359]],
    "max_initial_timestamp_index": 50,
    "max_source_positions": 1500,
}
ENGLISH = {"no_timestamps_token_id": 50362, "is_multilingual": False, "forced_decoder_ids": [[1, 50362]]}
OLD_ENGLISH = {"forced_decoder_ids": [[1, 50362]]}


@pytest.mark.parametrize(
    ("config", "words", "language", "task", "prompt", "begin"),
    [
        (MULTILINGUAL, ["en", "de"], None, "transcribe", 4, 50364),
        ({**MULTILINGUAL, "forced_decoder_ids": None}, ["en", "de"], None, None, 4, 50364),
        ({**MULTILINGUAL, "language": "<|de|>", "task": "translate"}, ["en", "de"], "de", "translate", 4, 50364),
        ({**MULTILINGUAL, "forced_decoder_ids": [[1, 50261], [2, 50358]]}, ["en", "de"], "de", "translate", 4, 50364),
        (ENGLISH, [], None, None, 2, 50363),
        (OLD_ENGLISH, [], None, None, 2, 50363),
    ],
)
def test_whispers_prompt_is_read_from_new_and_old_configs(
    shared: Path,
    pack: Pack,
    config: dict[str, Any],
    words: list[str],
    language: Any,
    task: Any,
    prompt: int,
    begin: int,
) -> None:
    """generation_config.json as openai/whisper-tiny and whisper-tiny.en have it, and as they had it before."""
    predictor = pack(shared / "zoo" / "whisper" / "model", "fp32")
    spec = predictor.manifest.inputs["audio"]
    silent = 50362 if config in (ENGLISH, OLD_ENGLISH) else 50363
    tokens = [("<|en|>", 50259), ("<|transcribe|>", 50358), ("<|notimestamps|>", silent), ("<|0.00|>", silent + 1)]
    tokenizer = {"added_tokens": [{"content": text, "id": number} for text, number in tokens], "model": {"vocab": {}}}
    speech, length = read_speech(None, config.get, tokenizer, 51865, spec)  # type: ignore[arg-type]
    assert (list(speech.languages), speech.language, speech.task, length) == (words, language, task, prompt)
    assert speech.timestamps is not None
    assert (speech.timestamps.begin, speech.timestamps.step_s) == (begin, 0.02)
