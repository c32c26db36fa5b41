"""ONNX Runtime: .onnx and .ort graphs, weights beside them; only its public calls."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.arrays import Array
from edgekit.errors import BackendError, ClosedError, EdgekitError, GraphRefused, ProviderInactive, RuntimeMissing
from edgekit.runtimes import optimised
from edgekit.runtimes.checks import check_carry, check_tensors, expected_tensors
from edgekit.runtimes.graph import Binding, GraphTensors, Settings, Tensors, TensorSpec
from edgekit.runtimes.steps import Steps
from edgekit.specs.tensor import NUMPY_NAMES, Datatype

INSTALL_HINT = 'pip install "edgekit-sdk[onnx]"'
CPU = "CPUExecutionProvider"
LOG_FATAL = 4

DATATYPES: dict[str, Datatype] = {
    "tensor(bool)": "BOOL",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissing(f"onnxruntime cannot be imported here ({error})", hint=INSTALL_HINT) from None
    return onnxruntime


def installed() -> dict[str, str]:
    """{"onnxruntime": version}, or nothing when it cannot be imported."""
    try:
        return {"onnxruntime": str(_onnxruntime().__version__)}
    except RuntimeMissing:
        return {}


def load(path: str | os.PathLike[str], settings: Settings, *, data: str | os.PathLike[str] | None) -> OnnxGraph:
    """A session over the file at `path`, opened by the runtime itself; `data` is the file with outside weights.

    Raises GraphRefused, BundleError (weights anywhere but in `data`), RuntimeMissing, ProviderInactive.
    """
    runtime = _onnxruntime()
    path = os.fspath(path)
    file = os.path.basename(path)
    outside = None if data is None else os.fspath(data)
    providers = _available_providers(runtime, settings, file)
    opsets: Mapping[str, int] = {}

    def open_session(where: str, options: Any) -> Any:
        return runtime.InferenceSession(where, sess_options=options, providers=providers, enable_fallback=False)

    kept = None
    if settings.cache is not None and providers == [CPU]:
        kept = optimised.entry_for(settings.cache, runtime.__version__)
    try:
        session = kept and _load_kept(runtime, settings, kept, open_session)
        if session is not None:
            return OnnxGraph(runtime, session, file, None)
        ort, opsets = _check_file(path, file, outside)
        if kept and not ort:
            options = _options(runtime, settings, ort=False)
            session = optimised.load_and_keep(kept, [path, *filter(None, [outside])], options, open_session)
        if session is None:
            kept = None
            session = open_session(path, _options(runtime, settings, ort=ort))
    except EdgekitError:
        raise
    except Exception as error:
        raise _load_error(file, opsets, error, runtime.__version__) from None
    active = session.get_providers()
    if active[: len(settings.providers)] != list(settings.providers):
        raise ProviderInactive(
            f"{file}: expected {', '.join(settings.providers)} to run it, got {', '.join(active)}",
            hint="the provider's own libraries (CUDA, cuDNN, TensorRT) are missing or do not match onnxruntime",
        )
    return OnnxGraph(runtime, session, file, kept)


def _load_kept(runtime: Any, settings: Settings, entry: Path, open_session: optimised.Open) -> Any:
    options = _options(runtime, settings, ort=False)
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it was, before it was kept
    return optimised.load_kept(entry, options, open_session)


def _check_file(path: str, file: str, data: str | None) -> tuple[bool, dict[str, int]]:
    """Whether it is a .ort file, and its opsets; outside weights, if any, are all in `data`."""
    # A second load has what was kept of the graph and needs no reader.
    from edgekit.formats import mapped
    from edgekit.formats.external import check_external_data, plain_file_size
    from edgekit.formats.onnx import parse_onnx
    from edgekit.formats.ort import is_ort, parse_ort

    with mapped(path, file) as content:
        ort = is_ort(content)
        model = parse_ort(content, file) if ort else parse_onnx(content, file)
    if data is not None and os.path.dirname(data) != os.path.dirname(path):
        raise GraphRefused(f"{file}: expected its weights beside it, got {data}")
    data_name = None if data is None else os.path.basename(data)
    check_external_data(
        model.external, file, data_name, lambda name: plain_file_size(os.path.join(os.path.dirname(path), name))
    )
    return ort, model.opsets


def _available_providers(runtime: Any, settings: Settings, file: str) -> list[str]:
    available = runtime.get_available_providers()
    for name in settings.providers:
        if name not in available:
            raise ProviderInactive(
                f"{file}: expected {name}, this onnxruntime {runtime.__version__} has {', '.join(available)}",
                hint="install the onnxruntime build that has this provider, or ask for one of those listed",
            )
    return [*settings.providers, *(() if CPU in settings.providers else (CPU,))]


def _options(runtime: Any, settings: Settings, *, ort: bool) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = LOG_FATAL
    if not settings.spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if ort:
        options.add_session_config_entry("session.load_model_format", "ORT")
    if saturates_int8(os.uname().machine, _cpu_description()):
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def saturates_int8(machine: str, cpu_description: str) -> bool:
    """Whether this CPU adds products of uint8 and int8 in saturating 16 bits: x86 without VNNI instructions.

    There ONNX Runtime needs `session.x64quantprecision` for exact sums (2.4 % off without). With VNNI they are exact
    anyway and the key makes int8 products 2.2 times as slow (measured, onnxruntime 1.32, Xeon).
    """
    return machine in ("x86_64", "AMD64", "i686") and "vnni" not in cpu_description


@cache
def _cpu_description() -> str:
    try:
        with open("/proc/cpuinfo") as stream:
            return next((line for line in stream if line.startswith("flags")), "")
    except OSError:
        return ""  # not Linux: exact rather than fast


class OnnxGraph:
    """A session; calls from several threads run side by side."""

    def __init__(self, runtime: Any, session: Any, file: str, kept: Path | None) -> None:
        self._kept = kept
        self._runtime = runtime
        self._session: Any = session
        self.file = file
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self._spec = GraphTensors(
            inputs=tuple(_spec(file, "input", node) for node in session.get_inputs()),
            outputs=tuple(_spec(file, "output", node) for node in session.get_outputs()),
        )
        self._expected = expected_tensors(self._spec.inputs)
        self._output_names = [t.name for t in self._spec.outputs]

    @property
    def spec(self) -> GraphTensors:
        """What goes in and what comes out."""
        return self._spec

    def session(self) -> Any:
        """The runtime's own object. Raises ClosedError."""
        session = self._session
        if session is None:
            raise ClosedError(f"{self.file}: used after close()")
        return session

    def run(self, tensors: Tensors, outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Outputs by name, see Graph.run; those that were not asked for are not fetched. No copies on a CPU."""
        session = self.session()
        check_tensors(self._expected, tensors, self.file)
        names = self._output_names if outputs is None else outputs
        try:
            return dict(zip(names, session.run(names, tensors)))
        except Exception as error:
            raise _run_error(self.file, error) from None

    def bind(self, carry: Mapping[str, str], initial: Tensors) -> Binding:
        """Steps in which the output carry[i] of one is the input i of the next, without a copy."""
        self.session()
        tensors = (*self._spec.inputs, *self._spec.outputs)
        if all(-1 not in t.shape and t.datatype != "BYTES" for t in tensors):
            return OnnxBinding(self, self._runtime, carry, initial)
        # Arrays go in and come out of a session without a copy; binding anew in each step costs more than it saves.
        return Steps(self._spec, lambda given, first: self.run(given), carry, initial, self.file)

    def keep(self) -> None:
        """What was kept of this graph may be used from now on: its file was the verified one while it was loaded."""
        if self._kept is not None:
            optimised.trust(self._kept)
            self._kept = None

    def close(self) -> None:
        """Free the session when the calls that are under way have ended; a second call does nothing."""
        self._session = None


def _spec(file: str, kind: str, node: Any) -> TensorSpec:
    datatype = DATATYPES.get(node.type)
    if datatype is None:
        raise GraphRefused(f"{file}: {kind} {node.name!r} is a {node.type}, expected a tensor of a plain number type")
    shape = tuple(axis if type(axis) is int and axis >= 0 else -1 for axis in node.shape)
    return TensorSpec(name=node.name, datatype=datatype, shape=shape, quantization=None)


class OnnxBinding:
    """The Binding of a graph whose shapes are all fixed: buffers bound once, the state's two swapped; one thread."""

    def __init__(self, graph: OnnxGraph, runtime: Any, carry: Mapping[str, str], initial: Tensors) -> None:
        check_carry(graph.spec, carry, initial, graph.file)
        self._graph = graph
        self._carry = dict(carry)
        self._expected = {t.name: expected_tensors((t,)) for t in graph.spec.inputs}
        self._initial = {name: np.array(array, order="C") for name, array in initial.items()}
        outputs = {t.name: t for t in graph.spec.outputs}
        self._results = {name: _buffer(t) for name, t in outputs.items() if name not in carry.values()}
        constant = {t.name: _buffer(t) for t in graph.spec.inputs if t.name not in carry}
        # Step 0, 2, ... reads the first buffer of each state and writes the second; step 1, 3, ... the other way.
        states = [{source: _buffer(outputs[target]) for source, target in carry.items()} for _ in range(2)]
        self._inputs = [{**constant, **state} for state in states]
        self._bindings = []
        for read, written in (states, states[::-1]):
            binding = graph.session().io_binding()
            for name, array in {**constant, **read}.items():
                binding.bind_ortvalue_input(name, runtime.OrtValue.ortvalue_from_numpy(array))
            for name, array in {**self._results, **{carry[s]: a for s, a in written.items()}}.items():
                binding.bind_ortvalue_output(name, runtime.OrtValue.ortvalue_from_numpy(array))
            self._bindings.append(binding)
        self._turn = 0
        self._missing = set(self._expected)
        self._give(self._initial)

    def _give(self, tensors: Tensors) -> None:
        """Copy arrays to where the next step reads them."""
        for name, array in tensors.items():
            expected = self._expected.get(name)
            if expected is None:
                raise GraphRefused(f"{self._graph.file}: expected the inputs {list(self._expected)}, got {name!r}")
            check_tensors(expected, {name: array}, self._graph.file)
        for name, array in tensors.items():
            np.copyto(self._inputs[self._turn][name], array)
            self._missing.discard(name)

    def run(self, tensors: Tensors) -> dict[str, Array]:
        """One step; see Binding.run. After an error the state is that of the last step that succeeded."""
        session = self._graph.session()
        turn = self._turn
        buffers = self._inputs[turn]
        for name, array in tensors.items():
            buffer = buffers.get(name)
            if buffer is None or getattr(array, "dtype", None) is not buffer.dtype or array.shape != buffer.shape:
                self._give(tensors)  # says what is wrong, or takes another byte order and subclasses of arrays
                break
        else:
            for name, array in tensors.items():
                buffers[name][...] = array
        if self._missing:
            self._missing -= tensors.keys()
        if self._missing:
            raise GraphRefused(f"{self._graph.file}: inputs {sorted(self._missing)} have not been given")
        try:
            session.run_with_iobinding(self._bindings[turn])
        except Exception as error:
            raise _run_error(self._graph.file, error) from None
        self._turn = 1 - turn
        return {name: array.copy() for name, array in self._results.items()}

    def state(self) -> dict[str, Array]:
        """A copy of what the next step would read, by carried input."""
        return {name: self._inputs[self._turn][name].copy() for name in self._carry}

    def reset(self) -> None:
        """Start again from the initial tensors."""
        self._give({name: self._initial[name] for name in self._carry})


def _buffer(tensor: TensorSpec) -> Array:
    return np.zeros(tensor.shape, NUMPY_NAMES[tensor.datatype])


def _told(error: Exception) -> str:
    """What the runtime says, without its own prefix and source lines."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", str(error).strip())
    text = re.sub(r"\S*/onnxruntime/\S+:\d+ |Load model from .*? failed: ?", "", text)
    text = re.sub(r"(Status Message: ).*? was false\. ?", r"\1", text)
    return " ".join(text.split())[:500] or type(error).__name__


def _load_error(file: str, opsets: Mapping[str, int], error: Exception, version: str) -> EdgekitError:
    text = str(error)
    if isinstance(error, MemoryError):
        return BackendError(f"{file}: not enough memory to load it")
    domain_op = re.search(r"Fatal error: ([\w.]*):(\w+)\((-?\d+)\) is not a registered", text)
    if domain_op:
        domain, op = domain_op[1], domain_op[2]
        return _op_missing(file, op, domain, opsets, version)
    schema = re.search(
        r'In Node, \(".*?", (\w+), "([\w.]*)", -?\d+\).*Error No (Op registered|opset import)', text, re.S
    )
    if schema:
        return _op_missing(file, schema[1], schema[2], opsets, version)
    kernel = re.search(r"Could not find an implementation for (?:([\w.]+)[.:])?(\w+)\((\d+)\)", text)
    if kernel:
        domain = kernel[1] or "ai.onnx"
        return GraphRefused(
            f"{file}: onnxruntime {version} has no implementation of operator {kernel[2]} of {domain} opset "
            f"{kernel[3]} for the datatypes it has in this graph",
            hint="export the model in another datatype, or for another opset",
        )
    opset = re.search(r"Opset (\d+) is under development.*?domain (\S+) is till opset (\d+)", text, re.S)
    if opset:
        return GraphRefused(
            f"{file}: needs opset {opset[1]} of {opset[2]}, onnxruntime {version} has {opset[3]}",
            hint="update onnxruntime, or export the model for an older opset",
        )
    ir = re.search(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)", text)
    if ir:
        return GraphRefused(
            f"{file}: needs ONNX IR version {ir[1]}, onnxruntime {version} has {ir[2]}",
            hint="update onnxruntime, or save the model with an older IR version",
        )
    return GraphRefused(f"{file}: onnxruntime {version} refuses it: {_told(error)}")


def _op_missing(file: str, op: str, domain: str, opsets: Mapping[str, int], version: str) -> GraphRefused:
    opset = opsets.get(domain, opsets.get("" if domain == "ai.onnx" else domain))
    of = f" of {domain or 'ai.onnx'}" + (f" opset {opset}" if opset is not None else "")
    return GraphRefused(
        f"{file}: onnxruntime {version} has no operator {op}{of}",
        hint="update onnxruntime, or export the model without this operator (custom operators cannot be bundled)",
    )


def _run_error(file: str, error: Exception) -> EdgekitError:
    if isinstance(error, MemoryError):
        return BackendError(f"{file}: not enough memory to run it")
    return GraphRefused(f"{file}: onnxruntime could not run it: {_told(error)}")
