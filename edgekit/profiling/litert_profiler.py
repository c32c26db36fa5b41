"""LiteRT's per-operator profiler, driven through the C interface that its shared library exports.

Not part of LiteRT's public Python interface, and its layout is not promised to anybody: so it runs in a child
process only (a wrong layout or, on Cortex-A53 and A72, the CompiledModel itself ends the process), and only for
the versions whose layout was checked. Layouts: google-ai-edge/LiteRT, litert/c/litert_profiler_event.h,
litert_layout.h, litert_model_types.h, litert_opaque_options.h.
"""

from __future__ import annotations

import ctypes as c
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from edgekit.errors import BackendError

CHECKED_VERSIONS = r"2\.(1\.6|2\.\d+|3\.\d+)"
"""ai-edge-litert versions whose event records were compared with known graphs (2.1.6, 2.2.0, 2.3.0 on x86_64)."""

OPERATOR, DELEGATE_OPERATOR, PROFILED_DELEGATE_OPERATOR = 2, 4, 8
CPU_ACCELERATOR = 1
LOCK_FOR_WRITING = 1
RUNTIME_OPTIONS = b"runtime_options_string"
ENABLE_PROFILING = b"enable_profiling = true\n"


class MemoryUsage(c.Structure):
    """tflite::profiling::memory::MemoryUsage; not read, but it gives the records their length."""

    _fields_ = [("kib", c.c_int64 * 3)]


class Event(c.Structure):
    """ProfiledEventData, 104 bytes."""

    _fields_ = [
        ("tag", c.c_char_p),
        ("kind", c.c_int32),
        ("start_us", c.c_uint64),
        ("elapsed_us", c.c_uint64),
        ("memory_before", MemoryUsage),
        ("memory_after", MemoryUsage),
        ("node", c.c_uint64),
        ("detail", c.c_uint64),
        ("source", c.c_int32),
    ]


class TensorType(c.Structure):
    """LiteRtRankedTensorType, 72 bytes: element type, rank and flag, dimensions, strides."""

    _fields_ = [("element", c.c_int32), ("rank", c.c_uint32), ("dims", c.c_int32 * 8), ("strides", c.c_uint32 * 8)]


class OperatorEvent(NamedTuple):
    """One operator of one run; kind tells an operator of the graph from one inside a delegate."""

    name: str
    kind: int
    start_us: int
    elapsed_us: int
    node: int


class Model(NamedTuple):
    """A compiled model that can be run, and its handle; `fed` says whether the inputs hold the given bytes."""

    handle: c.c_void_p
    run: Callable[[], None]
    fed: bool
    keep: list[Any]


def is_checked(version: str) -> bool:
    """Whether this ai-edge-litert's layout is known."""
    return re.fullmatch(CHECKED_VERSIONS, version) is not None


def open_library(path: str) -> c.CDLL:
    """libLiteRt.so. Raises BackendError."""
    try:
        return c.CDLL(path)
    except OSError as error:
        raise BackendError(f"LiteRT's library cannot be loaded: {error}") from None


def call(library: c.CDLL, name: str, *arguments: Any) -> None:
    """Call a function that returns a status, 0 for fine. Raises BackendError."""
    try:
        function = getattr(library, name)
    except AttributeError:
        raise BackendError(f"LiteRT's library has no {name}") from None
    function.restype = c.c_int
    status = function(*arguments)
    if status:
        raise BackendError(f"LiteRT's {name} gave status {status}")


def open_model(library: c.CDLL, path: str, inputs: Sequence[bytes], *, profiling: bool) -> Model:
    """Compile a .tflite for one processor thread, with its inputs filled where their sizes match. Raises BackendError.

    Nothing of it is freed: the process that called this ends after it.
    """
    environment, model, options, compiled = (c.c_void_p() for _ in range(4))
    keep: list[Any] = []
    call(library, "LiteRtCreateEnvironment", 0, None, c.byref(environment))
    call(library, "LiteRtCreateModelFromFile", environment, path.encode(), c.byref(model))
    call(library, "LiteRtCreateOptions", c.byref(options))
    call(library, "LiteRtSetOptionsHardwareAccelerators", options, CPU_ACCELERATOR)
    if profiling:
        keep += _enable_profiling(library, options)
    call(library, "LiteRtCreateCompiledModel", environment, model, options, c.byref(compiled))
    signature = c.c_void_p()
    call(library, "LiteRtGetModelSignature", model, c.c_size_t(0), c.byref(signature))
    buffers = {kind: _buffers(library, kind, signature, compiled, environment) for kind in ("Input", "Output")}
    fed = _fill(library, buffers["Input"], inputs)
    handles = {kind: (c.c_void_p * len(found))(*found) for kind, found in buffers.items()}
    counts = {kind: c.c_size_t(len(found)) for kind, found in buffers.items()}

    def run() -> None:
        call(
            library,
            "LiteRtRunCompiledModel",
            compiled,
            c.c_size_t(0),
            counts["Input"],
            handles["Input"],
            counts["Output"],
            handles["Output"],
        )

    return Model(compiled, run, fed, [*keep, handles, environment, model, options])


def _enable_profiling(library: c.CDLL, options: c.c_void_p) -> list[Any]:
    """Hand the option over; LiteRT frees the text itself, with the function it is given."""
    libc = c.CDLL(None)
    libc.strdup.restype = c.c_void_p
    libc.strdup.argtypes = [c.c_char_p]
    libc.free.argtypes = [c.c_void_p]
    release = c.CFUNCTYPE(None, c.c_void_p)(lambda pointer: libc.free(pointer))
    opaque = c.c_void_p()
    text = c.c_void_p(libc.strdup(ENABLE_PROFILING))
    call(library, "LiteRtCreateOpaqueOptions", RUNTIME_OPTIONS, text, release, c.byref(opaque))
    call(library, "LiteRtAddOpaqueOptions", options, opaque)
    return [release]


def _buffers(
    library: c.CDLL, kind: str, signature: c.c_void_p, compiled: c.c_void_p, environment: c.c_void_p
) -> list[c.c_void_p]:
    count = c.c_size_t()
    call(library, f"LiteRtGetNumSignature{kind}s", signature, c.byref(count))
    buffers = []
    for index in map(c.c_size_t, range(count.value)):
        tensor, requirements, buffer, tensor_type = c.c_void_p(), c.c_void_p(), c.c_void_p(), TensorType()
        call(library, f"LiteRtGetSignature{kind}TensorByIndex", signature, index, c.byref(tensor))
        call(library, "LiteRtGetRankedTensorType", tensor, c.byref(tensor_type))
        name = f"LiteRtGetCompiledModel{kind}BufferRequirements"
        call(library, name, compiled, c.c_size_t(0), index, c.byref(requirements))
        name = "LiteRtCreateManagedTensorBufferFromRequirements"
        call(library, name, environment, c.byref(tensor_type), requirements, c.byref(buffer))
        buffers.append(buffer)
    return buffers


def _fill(library: c.CDLL, buffers: Sequence[c.c_void_p], inputs: Sequence[bytes]) -> bool:
    sizes = []
    for buffer in buffers:
        found = c.c_size_t()
        call(library, "LiteRtGetTensorBufferPackedSize", buffer, c.byref(found))
        sizes.append(found.value)
    matches = sizes == [len(data) for data in inputs]
    for buffer, size, data in zip(buffers, sizes, inputs if matches else [bytes(size) for size in sizes]):
        address = c.c_void_p()
        call(library, "LiteRtLockTensorBuffer", buffer, c.byref(address), LOCK_FOR_WRITING)
        c.memmove(address, data, size)
        call(library, "LiteRtUnlockTensorBuffer", buffer)
    return matches


class Profile(NamedTuple):
    """What was measured: milliseconds per run, plain and profiled in turn, and the events of each profiled run."""

    plain_ms: list[float]
    profiled_ms: list[float]
    runs: list[list[OperatorEvent]]
    fed: bool


def profile(library: c.CDLL, path: str, inputs: Sequence[bytes], runs: int) -> Profile:
    """Run a model with and without its profiler in turn, `runs` times each. Raises BackendError."""
    plain = open_model(library, path, inputs, profiling=False)
    watched = open_model(library, path, inputs, profiling=True)
    profiler = c.c_void_p()
    call(library, "LiteRtCompiledModelGetProfiler", watched.handle, c.byref(profiler))
    if not profiler.value:
        raise BackendError("LiteRT gave no profiler for this graph")
    for _ in range(3):
        plain.run()
        watched.run()
    result = Profile([], [], [], watched.fed)
    for _ in range(runs):
        result.plain_ms.append(_time_ms(plain.run))
        call(library, "LiteRtResetProfiler", profiler)
        call(library, "LiteRtStartProfiler", profiler)
        result.profiled_ms.append(_time_ms(watched.run))
        call(library, "LiteRtStopProfiler", profiler)
        result.runs.append(_events(library, profiler))
    return result


def _time_ms(run: Callable[[], None]) -> float:
    before = time.perf_counter()
    run()
    return (time.perf_counter() - before) * 1e3


def _events(library: c.CDLL, profiler: c.c_void_p) -> list[OperatorEvent]:
    count = c.c_int()
    call(library, "LiteRtGetNumProfilerEvents", profiler, c.byref(count))
    if count.value < 1:
        return []
    records = (Event * count.value)()
    call(library, "LiteRtGetProfilerEvents", profiler, count, records)
    kinds = (OPERATOR, DELEGATE_OPERATOR, PROFILED_DELEGATE_OPERATOR)
    return [
        OperatorEvent((e.tag or b"?").decode("utf-8", "replace"), e.kind, e.start_us, e.elapsed_us, e.node)
        for e in records
        if e.kind in kinds
    ]
