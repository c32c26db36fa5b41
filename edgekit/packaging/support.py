"""What a target without edgekit on it can carry out: every value of a bundle's specs against its `supports` table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgekit.errors import InputError, TargetError
from edgekit.manifest import GraphSpec, InputSpec
from edgekit.records import Json, dump
from edgekit.specs.post import Postprocess
from edgekit.targets import Target


def check_supported(
    target: Target,
    inputs: Mapping[str, InputSpec],
    graphs: Sequence[GraphSpec],
    postprocess: Postprocess,
    generation: Any,
    read: Callable[[str], bytes],
) -> None:
    """Refuse by key what the target's table does not list; `read` gives a file of the bundle. Raises TargetError."""
    if target.supports is None:
        return
    if generation is not None:
        raise TargetError(f"{target.name} does not support generation")
    facts = _facts(inputs, graphs, postprocess, read)
    for key, allowed in target.supports.items():
        for value in _values(facts, key.split(".")):
            if not any(type(value) is type(a) and value == a for a in allowed):
                listed = ", ".join(json.dumps(a) for a in allowed)
                raise TargetError(
                    f"{target.name} does not support {key} = {json.dumps(value)}; it supports {listed}",
                    hint="change the recipe, or package for another target",
                )


def _facts(
    inputs: Mapping[str, InputSpec],
    graphs: Sequence[GraphSpec],
    postprocess: Postprocess,
    read: Callable[[str], bytes],
) -> Json:
    """The specs as one document: inputs by their kind, a tokenizer with what its file says."""
    facts: dict[str, Json] = {"inputs": [], "graphs": [], "postprocess": _opened(dump(postprocess))}
    for spec in inputs.values():
        document = dump(spec)
        if spec.kind == "text" and spec.tokenizer.type == "tokenizer_json":
            document["tokenizer"] = {**read_tokenizer(read(spec.tokenizer.file)), **document["tokenizer"]}
        facts["inputs"].append(document)
        facts.setdefault(spec.kind, []).append(document)
    for graph in graphs:
        document = dump(graph)
        facts["graphs"].append({**document, "ports": document["inputs"] + document["outputs"]})
    return facts


def _opened(postprocess: Json) -> Json:
    sources = postprocess.get("sources")
    return postprocess if sources is None else {**postprocess, "sources": list(sources.values())}


def _values(document: Json, path: list[str]) -> Iterator[Json]:
    """Every value at a dotted path; lists are passed through, null and what is absent say nothing."""
    if isinstance(document, list):
        for item in document:
            yield from _values(item, path)
    elif not path:
        if document is not None:
            yield document
    elif isinstance(document, dict) and path[0] in document:
        yield from _values(document[path[0]], path[1:])


def read_tokenizer(data: bytes) -> dict[str, Json]:
    """The document of a `tokenizer.json`. Raises InputError."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise InputError(f"tokenizer.json is not readable: {error}") from None
    if not isinstance(document, dict):
        raise InputError("tokenizer.json: expected a table")
    return document
