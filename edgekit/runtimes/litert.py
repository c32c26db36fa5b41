"""LiteRT's Interpreter, or tflite-runtime where that is what the device has: .tflite graphs.

Never CompiledModel: it stops with an illegal instruction on Cortex-A53 and A72 (ai-edge-litert 2.1 to 2.3).
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.arrays import Array
from edgekit.errors import BackendError, ClosedError, EdgekitError, GraphRefused, ProviderInactive, RuntimeMissing
from edgekit.formats import mapped
from edgekit.formats.tflite import TfliteModel, parse_tflite, unique_names
from edgekit.runtimes.checks import check_tensors, expected_tensors
from edgekit.runtimes.graph import Binding, GraphTensors, Settings, Tensors, TensorSpec
from edgekit.runtimes.steps import Steps
from edgekit.specs.tensor import DATATYPES, Quantization

INSTALL_HINT = 'pip install "edgekit-sdk[litert]", or "edgekit-sdk[tflite]" on 32-bit ARM'
CPU = "CPUExecutionProvider"


def _interpreter_module() -> tuple[Any, str, str]:
    """The module with Interpreter, its distribution's name and version."""
    try:
        import ai_edge_litert
        from ai_edge_litert import interpreter

        return interpreter, "ai-edge-litert", _version(ai_edge_litert)
    except ImportError as error:
        missing = str(error)  # the error itself would keep every caller's frame alive
    try:
        import tflite_runtime
        from tflite_runtime import interpreter
    except ImportError:
        raise RuntimeMissing(f"no TFLite interpreter can be imported here ({missing})", hint=INSTALL_HINT) from None
    version = _version(tflite_runtime)
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0" and re.match(r"2\.(\d|1[0-4])\.", version):
        # Importing it works, Interpreter() then fails with numpy's own banner on stderr.
        raise RuntimeMissing(
            f"tflite-runtime {version} works with numpy below 2 only, here is numpy {np.__version__}",
            hint='pip install "edgekit-sdk[tflite]" (it asks for numpy<2)',
        )
    return interpreter, "tflite-runtime", version


def _version(module: Any) -> str:
    return str(getattr(module, "__version__", "of unknown version"))


def installed() -> dict[str, str]:
    """{"ai-edge-litert": version} or {"tflite-runtime": version}, or nothing when none can be used."""
    try:
        _, name, version = _interpreter_module()
    except RuntimeMissing:
        return {}
    return {name: version}


def load(path: str | os.PathLike[str], settings: Settings, *, data: str | os.PathLike[str] | None) -> LiteRtGraph:
    """An interpreter over the file at `path`, which it maps itself; one run at a time, see `clone`.

    Raises GraphRefused, RuntimeMissing, ProviderInactive.
    """
    file = os.path.basename(os.fspath(path))
    if data is not None:
        raise GraphRefused(f"{file}: a TFLite graph has no weights outside, got {data}")
    others = [name for name in settings.providers if name != CPU]
    if others:
        raise ProviderInactive(f"{file}: expected {', '.join(others)} to run it, LiteRT runs on the CPU here")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise GraphRefused(f"{file}: cannot be opened ({error.strerror})") from None
    try:
        with mapped(_descriptor_path(descriptor), file) as content:
            model = parse_tflite(content, file)
        if model.outside:
            raise GraphRefused(f"{file}: refers to weights in other files, a bundle's TFLite graph is one file")
        return LiteRtGraph(descriptor, file, settings, model)
    except BaseException:
        os.close(descriptor)
        raise


def _descriptor_path(descriptor: int) -> str:
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return f"{folder}/{descriptor}"


class LiteRtGraph:
    """An interpreter behind a lock; it owns the descriptor of its file."""

    def __init__(self, descriptor: int, file: str, settings: Settings, model: TfliteModel) -> None:
        module, name, version = _interpreter_module()
        self.file = file
        self._settings = settings
        self._model = model
        self._runtime = f"{name} {version}"
        self._lock = threading.Lock()
        try:
            interpreter = module.Interpreter(
                model_path=_descriptor_path(descriptor), num_threads=settings.threads or None
            )
            interpreter.allocate_tensors()
            inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        except Exception as error:
            raise _load_error(file, self._runtime, error) from None
        self._interpreter: Any = interpreter
        self._spec = GraphTensors(
            inputs=_specs(file, "input", inputs, "input"), outputs=_specs(file, "output", outputs, "output")
        )
        self._expected = expected_tensors(self._spec.inputs)
        self._indices = {t.name: int(d["index"]) for t, d in zip(self._spec.inputs, inputs)}
        self._outputs = [(t.name, int(d["index"])) for t, d in zip(self._spec.outputs, outputs)]
        self._shapes: dict[str, tuple[int, ...] | None] = {
            t.name: tuple(int(axis) for axis in d["shape"]) for t, d in zip(self._spec.inputs, inputs)
        }
        self._descriptor = descriptor
        self._close_descriptor = weakref.finalize(self, os.close, descriptor)

    @property
    def spec(self) -> GraphTensors:
        """What goes in and what comes out; names as `formats.tflite.unique_names` makes them."""
        return self._spec

    def run(self, tensors: Tensors, outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Outputs by name, see Graph.run."""
        found = self.invoke(tensors, True)
        return found if outputs is None else {name: found[name] for name in outputs}

    def invoke(self, tensors: Tensors, fresh: bool) -> dict[str, Array]:
        """As run; without `fresh` the variables inside the graph keep what the run before left in them."""
        check_tensors(self._expected, tensors, self.file)
        with self._lock:
            interpreter = self._interpreter
            if interpreter is None:
                raise ClosedError(f"{self.file}: used after close()")
            try:
                if any(self._shapes[name] != tensors[name].shape for name in self._indices):
                    self._resize(interpreter, tensors)
                if fresh and self._model.variables:
                    interpreter.reset_all_variables()
                for name, index in self._indices.items():
                    interpreter.set_tensor(index, tensors[name])
                interpreter.invoke()
                return {name: interpreter.get_tensor(index) for name, index in self._outputs}
            except Exception as error:
                raise _run_error(self.file, self._runtime, error) from None

    def _resize(self, interpreter: Any, tensors: Tensors) -> None:
        shapes = {name: tensors[name].shape for name in self._indices}
        self._shapes = dict.fromkeys(self._indices)  # unknown, should one of the calls below fail
        for name, index in self._indices.items():
            interpreter.resize_tensor_input(index, shapes[name], strict=True)
        interpreter.allocate_tensors()
        self._shapes = dict(shapes)

    def bind(self, carry: Mapping[str, str], initial: Tensors) -> Binding:
        """Steps in which the output carry[i] of one is the input i of the next."""
        # Variables live in the interpreter: such a graph cannot share it with other callers.
        graph = self.clone() if self._model.variables else self
        return Steps(self._spec, graph.invoke, carry, initial, self.file)

    def clone(self) -> LiteRtGraph:
        """A second interpreter over the same mapped file, for a worker of its own; close it as well."""
        with self._lock:
            if self._interpreter is None:
                raise ClosedError(f"{self.file}: used after close()")
            descriptor = os.dup(self._descriptor)
        try:
            return LiteRtGraph(descriptor, self.file, self._settings, self._model)
        except BaseException:
            os.close(descriptor)
            raise

    def close(self) -> None:
        """Free the interpreter when the run that is under way has ended; a second call does nothing."""
        with self._lock:
            self._interpreter = None
            self._close_descriptor()


def _specs(file: str, kind: str, details: list[dict[str, Any]], fallback: str) -> tuple[TensorSpec, ...]:
    names = unique_names([d["name"] for d in details], fallback)
    return tuple(_spec(file, kind, name, d) for name, d in zip(names, details))


def _spec(file: str, kind: str, name: str, detail: Mapping[str, Any]) -> TensorSpec:
    dtype = np.dtype(detail["dtype"])
    datatype = "BYTES" if dtype.kind in "SO" else DATATYPES.get(dtype.name)
    if datatype is None:
        raise GraphRefused(f"{file}: {kind} {name!r} is a tensor of {dtype.name}, expected a plain number type")
    shape, signature = detail["shape"], detail["shape_signature"]
    if len(signature) == len(shape):
        shape = [-1 if s < 0 else axis for axis, s in zip(shape, signature)]
    scale, zero_point = detail["quantization"]
    quantization = None
    if scale > 0.0:
        quantization = Quantization(scale=float(scale), zero_point=int(zero_point), rounding="nearest_even")
    return TensorSpec(
        name=name, datatype=datatype, shape=tuple(int(axis) for axis in shape), quantization=quantization  # type: ignore[arg-type]
    )  # fmt: skip


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__


def _load_error(file: str, runtime: str, error: Exception) -> EdgekitError:
    if isinstance(error, MemoryError):
        return BackendError(f"{file}: not enough memory to load it")
    text = str(error)
    custom = re.search(r"unresolved custom op: (.+?)\.?\s*(?:See instructions|$)", text, re.S)
    builtin = re.search(r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'", text)
    unknown = re.search(r"Op builtin_code out of range: (\d+)", text)
    op = None
    if custom:
        op = f"custom operator {custom[1].strip()[:80]!r}"
    elif builtin:
        op = f"operator {builtin[1]} of version {builtin[2]}"
    elif unknown:
        op = f"operator with code {unknown[1]}"
    if op is not None:
        return GraphRefused(
            f"{file}: {runtime} has no {op}",
            hint="use a newer runtime, or convert the model without this operator (custom operators cannot be bundled)",
        )
    return GraphRefused(f"{file}: {runtime} refuses it: {_told(error)}")


def _run_error(file: str, runtime: str, error: Exception) -> EdgekitError:
    if isinstance(error, MemoryError):
        return BackendError(f"{file}: not enough memory to run it")
    return GraphRefused(f"{file}: {runtime} could not run it: {_told(error)}")
