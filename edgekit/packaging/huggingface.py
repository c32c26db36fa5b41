"""A Hugging Face folder becomes a draft: task, variant, graphs, inputs and result, each from what the folder says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError, InputError
from edgekit.manifest import GraphSpec, InputSpec
from edgekit.packaging.draft import LIMITS, Content, Draft, Sample
from edgekit.packaging.hf_graphs import Side, Staged, find_output, graph_spec, stage
from edgekit.packaging.hf_inputs import place, read_input, read_license
from edgekit.packaging.hf_tasks import (
    GENERATING,
    SIDES,
    SIMILARITY,
    TEXT_TO_TEXT,
    check_modules,
    decide_task,
    embedding_source,
    headed_embedding,
    make_embeddings,
    read_postprocess,
    states_of,
)
from edgekit.packaging.hf_towers import check_widths, find_scale, has_towers, stage_towers
from edgekit.packaging.hub_folder import HubFolder, HubGraph, choose_variant, read_hub_folder
from edgekit.packaging.questions import Questions
from edgekit.packaging.sampling import drawn_picture, generated_sample
from edgekit.packaging.sentence_head import STATES, read_head
from edgekit.specs.post import EmbeddingSource, Postprocess, Similarity
from edgekit.targets import Target

Roles = Mapping[str, HubGraph]
DENSE = ("semantic-segmentation", "depth-estimation")
"""Tasks whose result is as large as the picture: their golden sample is a small one."""


def read_huggingface(
    path: Path,
    target: Target,
    *,
    variant: str | None,
    task: str | None,
    answers: Mapping[str, str],
    source: str | None = None,
) -> Draft:
    """The draft of a hub folder for a target. Raises InputError naming what is missing or contradictory.

    source: where the folder came from, when its own name does not say it (`hf:owner/name`).
    """
    ask = Questions(str(path), answers)
    folder = read_hub_folder(path, ask.given("name") or (source and source.split("/")[-1]), ask.given("graph"))
    decided, why = decide_task(folder, task)
    variants = folder.variants()
    if decided in (*TEXT_TO_TEXT, "text-generation") or (
        decided in GENERATING and any(_generates(roles) for roles in variants.values())
    ):
        from edgekit.packaging.hf_generation import read_generation

        return read_generation(folder, target, variant=variant, task=decided, note=why, ask=ask, source=source)
    if decided == "image-to-text":
        raise InputError(f"{folder.name}: {decided} needs an encoder and a decoder graph; there is {_listed(variants)}")
    files: dict[str, Content] = {}
    if decided in SIMILARITY or (decided == "feature-extraction" and _other_side(folder, variants)):
        parts = _two_towers(folder, variants, decided, variant, target, files, ask)
    else:
        parts = _single(folder, variants, decided, variant, target, files, ask)
    inputs, graphs, postprocess, notes = parts
    ask_version = ask.given("version") or "1"
    ask.finish()
    return Draft(
        name=folder.name,
        version=ask_version,
        task=decided,
        license=read_license(folder),
        source=source or f"hub folder {folder.name}",
        inputs=inputs,
        graphs=graphs,
        postprocess=postprocess,
        files=files,
        samples=_samples(decided, inputs, files),
        limits=LIMITS,
        notes=(why, *notes),
    )


def read_reference(
    path: Path, target: Target, draft: Draft, *, task: str | None, answers: Mapping[str, str]
) -> Draft | None:
    """The float32 ONNX draft of the folder that this draft is another variant of; None where there is none."""
    if all(g.precision == "float32" and g.runtime == "onnxruntime" for g in draft.graphs):
        return None
    try:
        return read_huggingface(path, target, variant="fp32", task=task, answers=answers)
    except EdgekitError:
        return None


Parts = tuple[dict[str, InputSpec], tuple[GraphSpec, ...], Postprocess, tuple[str, ...]]


def _generates(roles: Roles) -> bool:
    return any(role.startswith("decoder") for role in roles)


def _listed(variants: Mapping[str, Roles]) -> str:
    return ", ".join(sorted({role for roles in variants.values() for role in roles})) or "none"


def _other_side(folder: HubFolder, variants: Mapping[str, Roles]) -> Side | None:
    """The side beside text of a folder with two towers."""
    roles = {role for found in variants.values() for role in found}
    nested = {"image": "vision_config", "audio": "audio_config"}
    for side, key in nested.items():
        if key in folder.config and "text_config" in folder.config and roles & {"model", "text_model"}:
            return side  # type: ignore[return-value]  # image or audio
    return None


def _single(
    folder: HubFolder,
    variants: Mapping[str, Roles],
    task: str,
    variant: str | None,
    target: Target,
    files: dict[str, Content],
    ask: Questions,
) -> Parts:
    """A task of one graph and one input."""
    alone = {v: roles for v, roles in variants.items() if "model" in roles or len(roles) == 1}
    if not alone:
        raise InputError(f"{folder.name}: {task} needs one graph 'model'; there is {_listed(variants)}")
    chosen, why = choose_variant(folder.name, alone, variant, target)
    roles = alone[chosen]
    staged = stage(roles.get("model") or next(iter(roles.values())), ask)
    side = SIDES.get(task) or _only_side(folder, staged)
    if side not in staged.sides:
        takes = ", ".join(staged.inputs)
        raise InputError(f"{folder.name}: {task} is given {side}; {staged.graph.path.name} takes {takes}")
    place(staged, files)
    spec, constants = read_input(folder, staged, side, files, ask)
    notes: tuple[str, ...] = (why,)
    if task == "feature-extraction" and folder.modules:
        check_modules(folder)
        states = states_of(folder, staged, ask)
        head = None if states is None or ask.given("pooling") else read_head(folder, staged, states, files)
        if states is not None and head is not None:
            headed, normalize, note = headed_embedding(folder, ask)
            graphs = (graph_spec(staged, "model", {STATES: states}, constants), head)
            return {side: spec}, graphs, make_embeddings({side: headed}, normalize), (why, note)
    if task == "feature-extraction":
        found, tensor, normalize, note = embedding_source(folder, staged, side, ask)
        postprocess: Postprocess = make_embeddings({side: found}, normalize)
        outputs, notes = {found.value: tensor}, (why, note)
    else:
        postprocess, outputs = read_postprocess(task, folder, staged, spec, files, ask)
    return {side: spec}, (graph_spec(staged, "model", outputs, constants),), postprocess, notes


def _only_side(folder: HubFolder, staged: Staged) -> Side:
    if len(staged.sides) != 1:
        takes = ", ".join(staged.inputs) or "nothing"
        raise InputError(f"{folder.name}: expected a graph of one input, {staged.graph.path.name} takes {takes}")
    return staged.sides[0]


def _two_towers(
    folder: HubFolder,
    variants: Mapping[str, Roles],
    task: str,
    variant: str | None,
    target: Target,
    files: dict[str, Content],
    ask: Questions,
) -> Parts:
    """A graph for texts and one for pictures or sounds."""
    other: Side = _other_side(folder, variants) or ("audio" if task == SIMILARITY[1] else "image")
    complete = {v: roles for v, roles in variants.items() if has_towers(roles, other)}
    if not complete:
        raise InputError(f"{folder.name}: {task} needs a graph of {other} and text; there is {_listed(variants)}")
    chosen, why = choose_variant(folder.name, complete, variant, target)
    towers = stage_towers(folder, complete[chosen], other, ask)
    inputs: dict[str, InputSpec] = {}
    sources: dict[str, EmbeddingSource] = {}
    graphs, widths, normalize, notes = [], {}, True, [why]
    for side, staged in towers.items():
        if side not in staged.sides:
            raise InputError(f"{staged.graph.path.name}: takes {', '.join(staged.inputs)}, which is no {side}")
        place(staged, files)
        inputs[side], constants = read_input(folder, staged, side, files, ask)
        tensor = find_output(staged, (f"{side}_embeds", "pooler_output"), f"the {side}'s embedding", ask)
        value, widths[side] = f"{side}_embeds", tensor
        sources[side] = EmbeddingSource(value=value, pooling=None)
        graphs.append(graph_spec(staged, side, {value: tensor}, constants))
    check_widths(widths)
    if task == "feature-extraction":
        return inputs, tuple(graphs), make_embeddings(sources, normalize), tuple(notes)
    scale = find_scale(folder, variants, chosen, inputs, other, ask)
    biased = str(folder.config.get("model_type", "")).startswith("siglip")
    similarity = Similarity(
        task="similarity",
        sources=sources,
        scale=scale.scale,
        bias=scale.bias,
        activation="sigmoid" if biased else "softmax",
        template=ask.given("template") or "{}",
    )
    return inputs, tuple(graphs), similarity, (*notes, scale.note)


def _samples(task: str, inputs: Mapping[str, Any], files: dict[str, Content]) -> tuple[Sample, ...]:
    """Drawn golden samples: one, or for separate embeddings one per side."""
    if task == "feature-extraction":
        return tuple(
            generated_sample({keyword: spec}, files)._replace(name=f"generated-{keyword}")
            for keyword, spec in inputs.items()
        )
    sample = generated_sample(inputs, files)
    if task in DENSE:
        files["golden/image.png"] = drawn_picture(64, 48)
    return (sample,)
