"""What every inference runtime answers to: a loaded graph, its tensors, its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from edgekit.arrays import Array
from edgekit.records import Record
from edgekit.specs.tensor import Datatype, Quantization

Tensors = Mapping[str, Array]
RuntimeName = Literal["onnxruntime", "litert"]


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


class Binding(Protocol):
    """A graph run step after step by one thread, what it carries staying inside; see `Graph.bind`."""

    def run(self, tensors: Tensors) -> dict[str, Array]:
        """One step: the outputs that are not carried, by name; the arrays belong to the caller.

        An input that is not given keeps what it was given last; a carried input that is given replaces what
        the step before left. Raises GraphRefused, ClosedError.
        """

    def state(self) -> dict[str, Array]:
        """A copy of what the next step would read, by carried input."""

    def reset(self) -> None:
        """Start again from the initial tensors; the other inputs keep what they were given last."""


class Graph(Protocol):
    """A loaded graph. Arrays in and out are in the graph's own datatypes (quantised stay quantised)."""

    @property
    def spec(self) -> GraphTensors:
        """What goes in and what comes out."""

    def run(self, tensors: Tensors, outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Outputs by name, all or those asked for; the arrays belong to the caller. Raises GraphRefused, ClosedError.

        An array that was an output may be an input of the next run; it goes in without a copy.
        """

    def bind(self, carry: Mapping[str, str], initial: Tensors) -> Binding:
        """Steps in which the output carry[i] of one is the input i of the next; shapes may grow on free axes.

        initial: the first value of every carried input, and of any other input that stays the same.
        """

    def close(self) -> None:
        """Free the runtime's memory; a second call does nothing."""


class Settings(Record):
    """How a runtime is started.

    threads: intra-op threads, 0 = the runtime's own choice. spinning: whether idle workers spin (costs CPU
    between paced calls). providers: execution providers in order of preference, () = CPU only.
    cache: path that the names of what a runtime keeps of this very graph begin with, or null.
    """

    threads: int
    spinning: bool
    providers: tuple[str, ...]
    cache: str | None
