"""Models that put pictures or sounds and texts into one space: a graph per side, and the scale of their cosine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from edgekit.arrays import Array
from edgekit.errors import InputError
from edgekit.manifest import InputSpec
from edgekit.packaging.hf_graphs import Side, Staged, data_name, file_name, opened, stage, stage_packed
from edgekit.packaging.hf_text import text_config
from edgekit.packaging.hub_folder import HubFolder, HubGraph
from edgekit.packaging.questions import Questions
from edgekit.packaging.split import tower
from edgekit.runtimes.graph import TensorSpec
from edgekit.specs.image import ImageSpec

ROLES: dict[Side, str] = {"image": "vision_model", "audio": "audio_model", "text": "text_model"}
INPUTS: dict[Side, tuple[str, ...]] = {
    "image": ("pixel_values",),
    "audio": ("input_features", "input_values", "is_longer"),
    "text": ("input_ids", "attention_mask", "token_type_ids"),
}
ROWS = 4
SCALE_TOLERANCE = 1e-4
"""Of the logits' largest: how far they may be from scale * cosine + bias."""


class Scale(NamedTuple):
    """score = activation(scale * cosine + bias), and where the numbers came from."""

    scale: float
    bias: float
    note: str


def has_towers(roles: Mapping[str, HubGraph], other: Side) -> bool:
    """Whether these graphs have a side for texts and one for `other`: a graph each, or both in one."""
    return {"text_model", ROLES[other]} <= roles.keys() or "model" in roles


def stage_towers(folder: HubFolder, roles: Mapping[str, HubGraph], other: Side, ask: Questions) -> dict[Side, Staged]:
    """One graph per side; a merged one is split by what each side's embedding needs."""
    if {"text_model", ROLES[other]} <= roles.keys():
        return {side: stage(roles[ROLES[side]], ask) for side in (other, "text")}
    merged = stage(roles["model"], ask)
    if merged.sides != tuple(s for s in ("image", "text", "audio") if s in (other, "text")):
        takes = ", ".join(merged.inputs)
        raise InputError(f"{folder.name}: expected a graph of {other} and text, {merged.graph.path.name} takes {takes}")
    return {side: _split_off(merged.graph, side, ask) for side in (other, "text")}


def _split_off(graph: HubGraph, side: Side, ask: Questions) -> Staged:
    file = file_name(graph).replace("model", ROLES[side], 1)
    packed = tower(graph.path, [f"{side}_embeds"], INPUTS[side], data_name(file))
    return stage_packed(graph, file, packed, ask)


def find_scale(
    folder: HubFolder,
    variants: Mapping[str, Mapping[str, HubGraph]],
    chosen: str,
    specs: Mapping[str, InputSpec],
    other: Side,
    ask: Questions,
) -> Scale:
    """The scale and bias between cosine and logits, from a merged graph's own outputs on drawn inputs.

    They are weights of the model that no config holds. Float32 is measured where the folder has it. Asked for by key
    where there is no merged graph.
    """
    merged = [v for v, roles in variants.items() if "model" in roles and roles["model"].runtime == "onnxruntime"]
    order = sorted(merged, key=lambda v: (v != "fp32", v != chosen))
    given = ask.given("logit_scale")
    if given is None and order:
        return _measured(folder, variants[order[0]]["model"], specs, other, ask)
    if given is None:
        scale = ask.number("logit_scale", "what the cosine is multiplied by, exp() of the weight logit_scale")
    else:
        scale = _number("logit_scale", given)
    biased = str(folder.config.get("model_type", "")).startswith("siglip")
    bias = ask.number("logit_bias", "what is added to it") if biased else 0.0
    return Scale(scale, bias, f"logit scale {scale:g}, bias {bias:g}: as answered")


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{key}: expected a number, got '{text}'") from None


def _measured(folder: HubFolder, graph: HubGraph, specs: Mapping[str, InputSpec], other: Side, ask: Questions) -> Scale:
    staged = stage(graph, ask)
    with opened(graph, staged.file, staged.content, staged.data) as loaded:
        made = loaded.run(_drawn(folder, staged, specs))
    try:
        logits, rows, texts = (
            np.asarray(made[name], np.float64) for name in (f"logits_per_{other}", f"{other}_embeds", "text_embeds")
        )
    except KeyError as error:
        raise InputError(f"{graph.path.name}: no output {error}, the scale of the cosine cannot be measured") from None
    cosines = _unit(rows) @ _unit(texts).T
    if logits.shape != cosines.shape:
        raise InputError(f"{graph.path.name}: {list(logits.shape)} logits for {list(cosines.shape)} pairs")
    scale, bias, off = _fitted(logits.ravel(), cosines.ravel())
    if off > SCALE_TOLERANCE:
        raise InputError(
            f"{graph.path.name}: its logits are no multiple of the cosine (off by {off:.2g} of the largest)",
            hint="give --set logit_scale=NUMBER",
        )
    return Scale(
        scale,
        bias,
        f"logit scale {scale:g}, bias {bias:g}: from {logits.size} logits of {graph.path.name}, off {off:.1g}",
    )


def _fitted(logits: Array, cosines: Array) -> tuple[float, float, float]:
    """scale, bias, and the largest relative deviation; without a bias where that suffices. Six digits are kept."""
    largest = max(float(np.abs(logits).max()), 1e-12)
    scale = float(f"{(logits @ cosines) / (cosines @ cosines):.6g}")
    off = float(np.abs(logits - scale * cosines).max()) / largest
    if off <= SCALE_TOLERANCE:
        return scale, 0.0, off
    slope, intercept = np.polyfit(cosines, logits, 1)
    scale, bias = float(f"{slope:.6g}"), float(f"{intercept:.6g}")
    return scale, bias, float(np.abs(logits - scale * cosines - bias).max()) / largest


def _unit(rows: Array) -> Array:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _drawn(folder: HubFolder, staged: Staged, specs: Mapping[str, InputSpec]) -> dict[str, Array]:
    """Seeded inputs of the right shapes, several rows where the batch axis is free."""
    random = np.random.RandomState(7)
    feeds: dict[str, Array] = {}
    vocabulary = text_config(folder).get("vocab_size")
    for name, tensor in staged.inputs.items():
        shape = _shape(name, tensor, specs)
        if name == "is_longer":
            feeds[tensor.name] = np.zeros([max(n, 1) for n in tensor.shape], bool)
        elif name == "input_ids":
            most = vocabulary if isinstance(vocabulary, int) and vocabulary > 1 else 1000
            feeds[tensor.name] = random.randint(0, most, shape).astype(_dtype(tensor))
        elif name in INPUTS["text"]:
            feeds[tensor.name] = np.full(shape, int(name == "attention_mask"), _dtype(tensor))
        else:
            feeds[tensor.name] = random.standard_normal(shape).astype(_dtype(tensor))
    return feeds


def _dtype(tensor: TensorSpec) -> str:
    return {"INT64": "int64", "INT32": "int32", "FP16": "float16", "BOOL": "bool"}.get(tensor.datatype, "float32")


def _shape(name: str, tensor: TensorSpec, specs: Mapping[str, InputSpec]) -> tuple[int, ...]:
    from edgekit.packaging.hf_image import final_size

    shape = list(tensor.shape)
    shape[0] = shape[0] if shape and shape[0] > 0 else ROWS
    image = specs.get("image")
    if name == "pixel_values" and isinstance(image, ImageSpec):
        sides = final_size(image) or (224, 224)
        wanted: tuple[int, ...] = (*sides, 3) if tensor.shape[3] == 3 else (3, *sides)  # a twin may lie otherwise
    elif name in INPUTS["audio"] and specs["audio"].kind == "audio":
        wanted = tuple(abs(n) for n in specs["audio"].shape[1:])
    else:
        text = specs["text"]
        wanted = (text.max_length if text.kind == "text" and text.padding == "max_length" else 8,)
    return (shape[0], *(n if n > 0 else w for n, w in zip(shape[1:], wanted)))


def check_widths(towers: Mapping[Side, TensorSpec]) -> None:
    """Refuse towers whose embeddings have different widths: they are not of one space."""
    widths = {side: t.shape[-1] for side, t in towers.items() if t.shape and t.shape[-1] > 0}
    if len(set(widths.values())) > 1:
        listed = ", ".join(f"{side} {width}" for side, width in widths.items())
        raise InputError(f"the towers' embeddings have different widths: {listed}", hint="export them with projection")
