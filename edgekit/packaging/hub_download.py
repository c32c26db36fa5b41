"""A model of the Hugging Face hub by its id: the configs and the files of one variant, and nothing else.

The only code of packaging that may reach the hub, and only for a source that says `hf:`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from edgekit.errors import EdgekitError, InputError, TransportError
from edgekit.packaging.hub_folder import GRAPH_SUFFIXES, HubGraph, choose_variant, graph_of_name
from edgekit.targets import Target

CONFIGS = ("*.json", "*.txt", "*.model", "README.md", "1_Pooling/config.json")


def download(source: str, variant: str | None, target: Target) -> Path:
    """The local folder of `hf:owner/name` or `hf:owner/name@revision`.

    It lies in huggingface_hub's cache and is made of links; packaging copies. Raises InputError for what is no id or
    is not there, TransportError when the hub is not reached, EdgekitError without huggingface_hub.
    """
    match = re.fullmatch(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", source)
    if match is None:
        raise InputError(f"'{source}' is no hub id", hint="hf:owner/name, or hf:owner/name@revision")
    try:
        import huggingface_hub as hub
    except ImportError:
        raise EdgekitError(
            f"{source}: reading from the hub needs huggingface_hub", hint='pip install "edgekit-sdk[hub]"'
        ) from None
    repository, revision = match[1], match[2]
    try:
        names = hub.HfApi().list_repo_files(repository, revision=revision)
        wanted = [*CONFIGS, *wanted_files(names, variant, target, repository)]
        return Path(hub.snapshot_download(repository, revision=revision, allow_patterns=wanted))
    except EdgekitError:
        raise
    except Exception as error:  # the library's and its HTTP client's errors have no common base
        raise _refused(source, error, hub) from None


def _refused(source: str, error: Exception, hub: Any) -> EdgekitError:
    missing = tuple(
        getattr(hub.errors, name)
        for name in ("RepositoryNotFoundError", "RevisionNotFoundError", "GatedRepoError", "HFValidationError")
        if hasattr(hub.errors, name)
    )
    if isinstance(error, missing):
        return InputError(f"{source}: not on the hub, or not open to you ({type(error).__name__})")
    return TransportError(f"{source}: the hub cannot be read ({type(error).__name__}: {str(error)[:200]})")


def wanted_files(names: Sequence[str], variant: str | None, target: Target, repository: str) -> list[str]:
    """The graph files of one variant with their weights, and merged float32 graphs, which hold logit scales."""
    graphs = [graph for name in names if (graph := _graph(name)) is not None]
    if not graphs:
        raise InputError(
            f"hf:{repository}: no .onnx or .tflite file in it", hint="look for an onnx-community copy of it"
        )
    variants: dict[str, dict[str, HubGraph]] = {}
    for graph in graphs:
        variants.setdefault(graph.variant, {}).setdefault(graph.role, graph)
    chosen, _ = choose_variant(f"hf:{repository}", variants, variant, target)
    kept = [g for g in graphs if g.variant == chosen or (g.variant == "fp32" and g.role == "model" and _towers(graphs))]
    paths = [g.path.as_posix() for g in kept]
    return [name for name in names if any(name == p or _is_weights_of(name, p) for p in paths)]


def _towers(graphs: Sequence[HubGraph]) -> bool:
    return any(g.role in ("text_model", "vision_model", "audio_model") for g in graphs)


def _graph(name: str) -> HubGraph | None:
    path = PurePosixPath(name)
    if path.suffix not in GRAPH_SUFFIXES or path.parent.as_posix() not in (".", "onnx", "tflite"):
        return None
    return graph_of_name(Path(name))


def _is_weights_of(name: str, graph: str) -> bool:
    """`model.onnx_data`, `model.onnx_data_1`, `model.onnx.data`, `model.data`: what exporters call outside weights."""
    stem = graph.removesuffix(".onnx")
    return name == f"{stem}.data" or re.fullmatch(re.escape(graph) + r"[_.]data(_\d+)?", name) is not None
