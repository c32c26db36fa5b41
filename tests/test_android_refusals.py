"""Issue 7, item 1: what a phone cannot run, and what the Java library cannot do, is refused at packaging by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from audio_specs import WAV2VEC2
from graphs import Scalar, affine_tflite, custom_tflite, tensor, tflite_bytes
from image_specs import crop, image_spec, resize
from packing import TRIDIGIT, changed_recipe, quiet

from edgekit.errors import TargetError
from edgekit.manifest import GraphSpec
from edgekit.packaging import android
from edgekit.packaging.build import build
from edgekit.packaging.draft import Draft
from edgekit.packaging.metadata_writer import Calibration, ModelNotes, write_metadata
from edgekit.packaging.recipe import read_recipe
from edgekit.packaging.support import check_supported
from edgekit.packaging.tflite_metadata import read_model_metadata
from edgekit.records import Record
from edgekit.specs import audio, image, post, text
from edgekit.specs.tensor import Port, TensorInput
from edgekit.targets import Target, find_target, known_targets


def target() -> Target:
    return find_target("android-arm64")


def draft(variant: str = "tflite-int8", recipe: Path = TRIDIGIT / "recipe.toml") -> Draft:
    return read_recipe(recipe, variant, target(), [], quiet)


def graph(shape: tuple[int, ...] = (1, 4), datatype: str = "FP32") -> GraphSpec:
    port = Port(name="x", value="x", datatype=datatype, shape=shape, quantization=None)  # type: ignore[arg-type]
    return GraphSpec(
        name="g",
        file="g.tflite",
        data=None,
        runtime="litert",
        role="model",
        precision="float32",
        inputs=(port,),
        outputs=(),
        state=(),
        constants=(),
    )


def test_android_takes_tflite_graphs_and_writes_metadata(tmp_path: Path) -> None:
    """The target chooses a TFLite variant itself, and every graph of the bundle carries metadata."""
    chosen = read_recipe(TRIDIGIT / "recipe.toml", None, target(), [], quiet)
    assert {g.runtime for g in chosen.graphs} == {"litert"}
    manifest, _ = build(chosen, target(), tmp_path / "t.edgekit")
    assert manifest.target == "android-arm64"
    prepared = android.prepare(chosen, target(), tmp_path)
    found = read_model_metadata(Path(str(prepared.files["image.tflite"])))
    assert found is not None
    assert (found.inputs[0].content, found.inputs[0].grey) == ("image", True)
    assert found.inputs[0].mean == pytest.approx((0.1307 * 255,))
    assert found.inputs[0].std == pytest.approx((0.3081 * 255,))


def test_what_the_metadata_cannot_say_is_said() -> None:
    """Resize, features, tokenizer and the result's arithmetic stay in the manifest, and packaging says so."""
    said = "\n".join(android.inexpressible(draft()))
    for word in (
        "resize stretch bilinear",
        "features mel",
        "tokenizer characters",
        "similarity",
        "the manifest keeps",
        "MediaPipe",
    ):
        assert word in said


def test_calibration_of_the_source_is_kept(tmp_path: Path) -> None:
    """A model that came with score calibration still has it."""
    source = tmp_path / "c.tflite"
    kept = Calibration(2, 0.5, "calibration.txt")
    output = android._tensor("y", calibration=kept)
    notes = ModelNotes("", "", "", "", "", (android._tensor("x"),), (output,), "")
    write_metadata(affine_tflite(tmp_path / "a.tflite"), notes, {"calibration.txt": b"1,1,1"}, source)
    whole = draft()._replace(graphs=(graph(),))
    found, files = android.describe(whole, graph(), android.check_graph(source, graph(), {}), source)
    assert found.outputs[0].calibration == kept
    assert files["calibration.txt"] == b"1,1,1"


@pytest.mark.parametrize(("name", "said"), [("TeleportV2", "custom operator TeleportV2"), ("FlexErf", "Flex.*FlexErf")])
def test_custom_and_flex_operators_are_refused(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=said) as refused:
        android.check_graph(custom_tflite(tmp_path / "g.tflite", name), graph(), {})
    assert refused.value.exit_code == 6


def test_float64_is_refused(tmp_path: Path) -> None:
    tensors = [tensor("x", [1, 2]), tensor("y", [1, 2])]
    for item in tensors:
        item["table"][1] = Scalar("b", 10)  # TensorType.FLOAT64
    path = tmp_path / "g.tflite"
    path.write_bytes(tflite_bytes(tensors, [(0, [0, 0], [1])], [0], [1]))
    with pytest.raises(TargetError, match="tensor 'x' is float64"):
        android.check_graph(path, graph(), {})


def test_two_gigabytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.tflite"
    with path.open("wb") as file:
        file.truncate(1 << 31)
    with pytest.raises(TargetError, match=r"2,147,483,648 bytes"):
        android.check_graph(path, graph(), {})


FREE = TensorInput(kind="tensor", value="x", datatype="FP32", shape=(1, -1))


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        (FREE, False),
        (WAV2VEC2.replace(value="x"), False),
        (WAV2VEC2.replace(value="x", length=audio.Length(samples=16000, pad="zero", trim="right")), True),
        (image_spec(resize("shortest_edge", 64, 64), value="x"), False),
        (image_spec(resize("shortest_edge", 64, 64), crop(64, 64), value="x"), True),
        (image_spec(resize("stretch", 64, 64), value="x"), True),
    ],
)
def test_a_free_axis_needs_a_bound(spec: Any, fits: bool, tmp_path: Path) -> None:
    path = affine_tflite(tmp_path / "g.tflite")
    free = graph(shape=(1, -1))
    if fits:
        android.check_graph(path, free, {"x": spec})
    else:
        with pytest.raises(TargetError, match="nothing bounds its free axes"):
            android.check_graph(path, free, {"x": spec})


CHANGES: dict[str, tuple[str, Callable[[str], str]]] = {
    "image.decode": ("scaled", lambda t: t.replace('decode = "exact"', 'decode = "scaled"')),
    "image.dtype": (
        "float16",
        lambda t: t.replace('layout = "nchw"\ndtype = "float32"', 'layout = "nchw"\ndtype = "float16"'),
    ),
}


@pytest.mark.parametrize("key", CHANGES)
def test_a_value_the_library_lacks_is_refused_by_key(key: str, tmp_path: Path) -> None:
    value, change = CHANGES[key]
    recipe = changed_recipe(tmp_path, change)
    with pytest.raises(TargetError, match=rf'{key} = "{value}"') as refused:
        build(draft(recipe=recipe), target(), tmp_path / "t.edgekit")
    assert refused.value.exit_code == 6
    assert not (tmp_path / "t.edgekit").exists()


TOKENIZER = {
    "model": {"type": "WordPiece"},
    "normalizer": {"type": "BertNormalizer"},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": None,
    "added_tokens": [{"content": "[CLS]", "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}],
}


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("text.tokenizer.model.type", {"model": {"type": "BPE"}}),
        ("text.tokenizer.normalizer.type", {"normalizer": {"type": "NFKC"}}),
        ("text.tokenizer.pre_tokenizer.type", {"pre_tokenizer": {"type": "ByteLevel"}}),
        ("text.tokenizer.post_processor.type", {"post_processor": {"type": "RobertaProcessing"}}),
        ("text.tokenizer.added_tokens.lstrip", {"added_tokens": [{"content": "<mask>", "lstrip": True}]}),
    ],
)
def test_other_tokenizers_are_refused_by_key(key: str, changed: dict[str, Any]) -> None:
    plain = draft()
    spec = plain.inputs["text"].replace(
        tokenizer=text.TokenizerFile(type="tokenizer_json", file="tokenizer.json", add_special_tokens=True)
    )

    def check(document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        check_supported(target(), {"text": spec}, plain.graphs, plain.postprocess, None, lambda name: data)

    check(TOKENIZER)
    with pytest.raises(TargetError, match=key):
        check({**TOKENIZER, **changed})


def test_a_task_the_library_lacks_is_refused_by_key() -> None:
    plain = draft()
    depth = post.Depth(task="depth", value="d", image="image", resize="bicubic")
    with pytest.raises(TargetError, match=r'postprocess\.task = "depth"'):
        check_supported(target(), {}, plain.graphs, depth, None, lambda name: b"")


KINDS: dict[str, tuple[type[Record], ...]] = {
    "image": (image.ImageSpec,),
    "image.steps": (image.Align, image.Resize, image.Crop, image.Pad),
    "audio": (audio.AudioSpec,),
    "audio.features": (audio.Spectrum,),
    "audio.windows": (audio.Windows,),
    "audio.length": (audio.Length,),
    "text": (text.TextSpec,),
}


def test_every_choice_of_the_specs_is_decided_in_the_table() -> None:
    """A field with choices that the table does not list would be carried out by chance."""
    from edgekit.records import _hints

    supports = target().supports or {}
    for key, kinds in KINDS.items():
        for kind in kinds:
            for field, hint in _hints(kind).items():
                choices = get_args(hint)
                if field == "kind" or not choices or not all(isinstance(c, str) for c in choices):
                    continue
                listed = supports.get(f"{key}.{field}")
                assert listed is not None, f"{key}.{field} is not in the table"
                known = {c for k in kinds for c in get_args(_hints(k).get(field, type(None)))}
                assert set(listed) <= known, f"{key}.{field}"


def test_only_android_has_a_table() -> None:
    assert [name for name, known in known_targets().items() if known.supports is not None] == ["android-arm64"]
