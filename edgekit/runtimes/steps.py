"""A graph run step after step, its state passed from output to input as arrays, never copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgekit.arrays import Array
from edgekit.runtimes.checks import check_carry
from edgekit.runtimes.graph import GraphTensors, Tensors

Invoke = Callable[[Tensors, bool], dict[str, Array]]
"""(tensors, first step) -> outputs; the first step clears the variables inside the graph."""


class Steps:
    """The Binding of a graph whose shapes may grow, or whose runtime takes nothing but arrays; for one thread."""

    def __init__(
        self, tensors: GraphTensors, invoke: Invoke, carry: Mapping[str, str], initial: Tensors, file: str
    ) -> None:
        check_carry(tensors, carry, initial, file)
        self._invoke = invoke
        self._carry = dict(carry)
        self._initial = {name: np.array(array, order="C") for name, array in initial.items()}
        self._given: dict[str, Array] = dict(self._initial)
        self._first = True

    def run(self, tensors: Tensors) -> dict[str, Array]:
        """One step; see Binding.run. After an error the state is that of the last step that succeeded."""
        given = {**self._given, **{name: np.array(array) for name, array in tensors.items()}}
        outputs = self._invoke(given, self._first)
        self._first = False
        given.update({source: outputs.pop(target) for source, target in self._carry.items()})
        self._given = given
        return outputs

    def state(self) -> dict[str, Array]:
        """A copy of what the next step would read, by carried input."""
        return {name: self._given[name].copy() for name in self._carry}

    def reset(self) -> None:
        """Start again from the initial tensors and cleared variables."""
        self._given.update({name: self._initial[name] for name in self._carry})
        self._first = True
