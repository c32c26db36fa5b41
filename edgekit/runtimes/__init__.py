"""Inference runtimes behind one small protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from edgekit.records import Record
from edgekit.specs.tensor import Datatype, Quantization

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]
else:
    Array = Any

Tensors = Mapping[str, Array]


class TensorSpec(Record):
    """A tensor as the graph itself declares it; -1 for a free axis; quantization null when it has none."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    quantization: Quantization | None


class GraphTensors(Record):
    """The inputs and outputs of a loaded graph, in the graph's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Graph(Protocol):
    """A loaded graph. Arrays in and out are in the graph's own datatypes (quantised stay quantised)."""

    @property
    def spec(self) -> GraphTensors:
        """What goes in and what comes out."""

    def run(self, tensors: Tensors) -> dict[str, Array]:
        """Outputs by name; the arrays belong to the caller. Raises GraphRefused, ClosedError."""

    def close(self) -> None:
        """Free the runtime's memory; a second call does nothing."""


class Settings(Record):
    """How a runtime is started.

    threads: intra-op threads, 0 = the runtime's own choice. spinning: whether idle workers spin (costs CPU
    between paced calls). providers: execution providers in order of preference, () = CPU only.
    cache: directory for optimised graphs and weight caches, or null.
    """

    threads: int
    spinning: bool
    providers: tuple[str, ...]
    cache: str | None
