"""The graphs of a hub folder: staged as they go into the bundle, and their tensors wired by what they are."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from edgekit.arrays import Array
from edgekit.errors import InputError
from edgekit.manifest import Constant, GraphSpec
from edgekit.packaging.draft import Content
from edgekit.packaging.hub_folder import HubGraph, external_files
from edgekit.packaging.questions import Questions
from edgekit.packaging.split import Packed, gather_weights
from edgekit.runtimes.graph import Graph, GraphTensors, Settings, TensorSpec
from edgekit.runtimes.loading import load_graph
from edgekit.specs.tensor import Port

Side = Literal["image", "text", "audio"]

SETTINGS = Settings(threads=1, spinning=False, providers=(), cache=None)
INPUTS: dict[str, Side] = {
    "pixel_values": "image",
    "pixel_mask": "image",
    "input_ids": "text",
    "token_type_ids": "text",
    "input_values": "audio",
    "input_features": "audio",
}
"""transformers' names of inputs; `attention_mask` belongs to the text, or else to the sound."""

_TEXT_ORDER = ("input_ids", "attention_mask", "token_type_ids")
"""The order of arguments of transformers' text models, which converters keep where they lose the names."""


class Staged(NamedTuple):
    """A graph as it goes into the bundle. content: the file, or the bytes of a rewritten one; data: outside weights.

    inputs: transformers' name of each input -> the graph's tensor.
    """

    graph: HubGraph
    file: str
    content: Content
    data: bytes | None
    tensors: GraphTensors
    inputs: dict[str, TensorSpec]

    @property
    def data_name(self) -> str | None:
        return None if self.data is None else data_name(self.file)

    @property
    def sides(self) -> tuple[Side, ...]:
        """The kinds of input that it takes."""
        found = {INPUTS[name] for name in self.inputs if name in INPUTS}
        return tuple(side for side in ("image", "text", "audio") if side in found)


def data_name(file: str) -> str:
    """The name of a graph's data file: `<graph>.data`."""
    return f"{Path(file).stem}.data"


def file_name(graph: HubGraph) -> str:
    """A name for the file in the bundle, from its own."""
    plain = re.sub(r"[^a-z0-9._-]+", "_", graph.path.name.lower()).lstrip("._-")
    return plain[-60:].lstrip("._-")


def stage(graph: HubGraph, ask: Questions) -> Staged:
    """A graph file ready for the bundle: outside weights in one file, inputs named. Raises InputError, GraphRefused."""
    file = file_name(graph)
    packed = gather_weights(graph.path, data_name(file)) if external_files(graph.path) else None
    return stage_packed(graph, file, packed, ask)


def stage_packed(graph: HubGraph, file: str, packed: Packed | None, ask: Questions) -> Staged:
    """The same for a graph that was rewritten; None takes the file as it is."""
    content: Content = graph.path if packed is None else packed.graph
    data = None if packed is None else packed.data
    with opened(graph, file, content, data) as loaded:
        tensors = loaded.spec
        inputs = _named_inputs(graph, loaded, ask)
    return Staged(graph, file, content, data, tensors, inputs)


@contextmanager
def opened(graph: HubGraph, file: str, content: Content, data: bytes | None) -> Iterator[Graph]:
    """The loaded graph."""
    with tempfile.TemporaryDirectory(prefix="edgekit-graph-") as folder:
        path = content if isinstance(content, Path) else Path(folder) / file
        outside = None
        if isinstance(content, bytes):
            path.write_bytes(content)
            if data is not None:
                outside = Path(folder) / data_name(file)
                outside.write_bytes(data)
        loaded = load_graph(graph.runtime, path, SETTINGS, outside)
        try:
            yield loaded
        finally:
            loaded.close()


def _named_inputs(graph: HubGraph, loaded: Graph, ask: Questions) -> dict[str, TensorSpec]:
    """Each input by transformers' name: its own, or for a .tflite that lost it by datatype, shape and order."""
    tensors = loaded.spec.inputs
    plain = [_plain_name(t.name) for t in tensors]
    known = (*INPUTS, "attention_mask", "is_longer")
    if all(name in known for name in plain) and len(set(plain)) == len(plain):
        return dict(zip(plain, tensors))
    if graph.runtime != "litert":
        return dict(zip((t.name for t in tensors), tensors))  # refused by name when it is wired
    return _inferred_inputs(graph, loaded, ask)


def _plain_name(name: str) -> str:
    """A TFLite tensor's name without what converters put around it."""
    return re.sub(r"(:\d+|_\d+)$", "", name.removeprefix("serving_default_"))


def _inferred_inputs(graph: HubGraph, loaded: Graph, ask: Questions) -> dict[str, TensorSpec]:
    """Names by datatype and shape where these leave one possibility, else asked for by key."""
    tensors = loaded.spec.inputs
    whole = [t for t in tensors if t.datatype in ("INT32", "INT64") and len(t.shape) == 2]
    if len(tensors) == 1 and len(tensors[0].shape) == 4 and 3 in (tensors[0].shape[1], tensors[0].shape[3]):
        return {"pixel_values": tensors[0]}
    if len(tensors) == 1 and tensors[0].datatype == "FP32" and len(tensors[0].shape) in (2, 3):
        return {"input_values" if len(tensors[0].shape) == 2 else "input_features": tensors[0]}
    if len(whole) == len(tensors) and len(tensors) <= len(_TEXT_ORDER) and len({t.shape for t in tensors}) == 1:
        ordered = sorted(tensors, key=lambda t: _natural(t.name))
        wired = dict(zip(_TEXT_ORDER, ordered))
        if "attention_mask" not in wired or _masks(loaded, wired):
            return wired
    return {
        ask.choice(
            f"{graph.path.stem}.{t.name}", (*INPUTS, "attention_mask"), f"what {t.datatype} {list(t.shape)} is"
        ): t
        for t in tensors
    }


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _masks(loaded: Graph, wired: Mapping[str, TensorSpec]) -> bool:
    """Whether this wiring behaves as a mask does: ids under a mask of 0 change nothing, ids under 1 do."""
    length = wired["input_ids"].shape[1]
    if length < 4:
        return False
    half = length // 2
    mask = np.zeros((1, length), np.int64)
    mask[0, :half] = 1
    ids = (np.arange(length) % 7 + 1)[None]

    def states(changed: slice) -> Array:
        other = ids.copy()
        other[0, changed] = 8
        given = {"input_ids": other, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feeds = {t.name: given[name].astype("int32" if t.datatype == "INT32" else "int64") for name, t in wired.items()}
        made = next(iter(loaded.run(feeds).values()))
        return np.asarray(made[:, :half] if made.ndim == 3 and made.shape[1] == length else made, np.float64)

    plain, hidden, seen = states(slice(0, 0)), states(slice(half, length)), states(slice(half - 1, half))
    scale = max(float(np.abs(plain).max()), 1e-12)
    return float(np.abs(hidden - plain).max()) < 1e-3 * scale < float(np.abs(seen - plain).max())


def find_output(staged: Staged, names: Sequence[str], what: str, ask: Questions) -> TensorSpec:
    """The output with the first of these names that there is, else the only one; asked for where there are several."""
    outputs = staged.tensors.outputs
    for name in names:
        for tensor in outputs:
            if name in (tensor.name, _plain_name(tensor.name)):
                return tensor
    if len(outputs) == 1:
        return outputs[0]
    answer = ask.choice(f"{staged.graph.role}.{names[0]}", [t.name for t in outputs], f"the output that is {what}")
    return next(t for t in outputs if t.name == answer)


def graph_spec(
    staged: Staged,
    name: str,
    outputs: Mapping[str, TensorSpec],
    constants: Sequence[Constant] = (),
    skip: Sequence[str] = (),
) -> GraphSpec:
    """The graph in the manifest: inputs are the values of transformers' names, outputs value -> tensor."""
    given = {c.name for c in constants}
    return GraphSpec(
        name=name,
        file=staged.file,
        data=staged.data_name,
        runtime=staged.graph.runtime,
        role=name,
        precision=staged.graph.precision,
        inputs=tuple(port(t, n) for n, t in staged.inputs.items() if t.name not in given and n not in skip),
        outputs=tuple(port(t, value) for value, t in outputs.items()),
        state=(),
        constants=tuple(constants),
    )


def port(tensor: TensorSpec, value: str) -> Port:
    """The port of a graph's tensor."""
    return Port(
        name=tensor.name,
        value=value,
        datatype=tensor.datatype,
        shape=tensor.shape,
        quantization=tensor.quantization,
    )


def constant(tensor: TensorSpec, fill: float) -> Constant:
    """An input that is the same number everywhere; free axes have size 1."""
    shape = tuple(max(n, 1) for n in tensor.shape)
    count = int(np.prod(shape)) if shape else 1
    if count > 1 << 16:
        raise InputError(f"input '{tensor.name}' of shape {list(tensor.shape)} is too large to be a constant")
    return Constant(name=tensor.name, datatype=tensor.datatype, shape=shape, data=(fill,) * count)
