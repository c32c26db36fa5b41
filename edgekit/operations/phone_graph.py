"""A graph that runs on a device through `benchmark_model`: tensors go as files, outputs come back as one.

So a predictor of this machine answers with the device's numbers, and the golden check is the same one as everywhere.
Source: LiteRT's benchmark_tflite_model.cc (LoadInputTensorData: raw bytes of the whole tensor; OutputSaver: the
outputs' raw bytes one after another, in the graph's order).
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgekit import golden
from edgekit.arrays import Array
from edgekit.devices import BUNDLE_FOLDER, Device, HostDriven, Verdict
from edgekit.devices.check import TIMED_OUT
from edgekit.devices.device import run_script
from edgekit.devices.lock import Owner, fenced
from edgekit.devices.release import incoming_folder
from edgekit.devices.transfer import transfer_timeout_s
from edgekit.errors import EdgekitError, GateFailed, GraphRefused, TargetError
from edgekit.formats.tflite import TfliteModel, read_tflite
from edgekit.manifest import GraphSpec
from edgekit.operations.runner import SHORT_S, Runner, install
from edgekit.predictor import Predictor, load_elsewhere
from edgekit.profiling.benchmark_model import NAME, complaints, parse_log
from edgekit.runtimes.checks import check_tensors, expected_tensors
from edgekit.runtimes.graph import Binding, GraphTensors, Tensors, TensorSpec
from edgekit.specs.tensor import NUMPY_NAMES

RUN_S = 120.0
CHECK_S = 900.0
"""Every row of every graph is a process of its own: a fraction of a second on a phone, ten on an emulated one."""

OURS = frozenset({132, 134, 139})
"""128 + SIGILL, SIGABRT, SIGSEGV: how a graph ends a program; other signals come from outside."""

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./;-]*")


class Fed(NamedTuple):
    """What one run was given, as files of the device; runs: how often in the same predict."""

    graph: str
    flags: dict[str, object]
    runs: int


class Phone:
    """Where graphs run: a runner, a folder of the device for this use alone, and what went wrong besides the graph.

    trouble: a cut link or a runner that does not do; it must not be taken for an answer of the graph.
    """

    def __init__(self, runner: Runner, folder: str, threads: int, deadline_s: float | None = None) -> None:
        self.runner, self.folder, self.threads = runner, folder, threads
        self.fed: dict[str, Fed] = {}
        self.trouble: EdgekitError | None = None
        self.late = False
        self._deadline_s = deadline_s

    def opener(self, release: str) -> Callable[[GraphSpec, str], PhoneGraph]:
        """Opens graphs of a release folder of the device."""

        def open_graph(spec: GraphSpec, path: str) -> PhoneGraph:
            return PhoneGraph(self, spec, read_tflite(path), f"{release}/{BUNDLE_FOLDER}/{spec.file}")

        return open_graph

    def left_s(self) -> float:
        """Seconds that a run may take; raises GateFailed when none are left."""
        if self._deadline_s is None:
            return RUN_S
        left = self._deadline_s - time.monotonic()
        if left <= 0:
            self.late = True
            raise GateFailed("the check did not end in time")
        return min(RUN_S, left)

    def remember(self, error: EdgekitError) -> EdgekitError:
        """Keep an error that is not the graph's, and give it back to be raised."""
        self.trouble = self.trouble or error
        return error


class PhoneGraph:
    """A graph of a release on the device; one process per run."""

    def __init__(self, phone: Phone, spec: GraphSpec, model: TfliteModel, path: str) -> None:
        self._phone, self._name, self._path, self._model = phone, spec.name, path, model
        self._file = spec.file
        self._spec = GraphTensors(
            inputs=tuple(_tensor(v.name, v.datatype, v.shape) for v in model.inputs),
            outputs=tuple(_tensor(v.name, v.datatype, v.shape) for v in model.outputs),
        )
        self._expected = expected_tensors(self._spec.inputs)

    @property
    def spec(self) -> GraphTensors:
        """What goes in and what comes out."""
        return self._spec

    def run(self, tensors: Tensors, outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Outputs by name. Raises GraphRefused for what the graph is to blame for."""
        check_tensors(self._expected, tensors, self._file)
        flags = self._feed(tensors)
        once = {"warmup_runs": 0, "warmup_min_secs": 0, "num_runs": 1, "min_secs": 0}
        result = f"{self._phone.folder}/result"
        found = self._call({**flags, "num_threads": self._phone.threads or -1, **once, "output_filepath": result})
        before = self._phone.fed.get(self._name)
        self._phone.fed[self._name] = Fed(self._name, flags, 1 + (before.runs if before else 0))
        try:
            shapes = output_shapes(self._spec.outputs, len(found))
        except GraphRefused as error:
            raise self._phone.remember(error) from None
        answers, at = {}, 0
        for tensor, shape in zip(self._spec.outputs, shapes):
            dtype = np.dtype(NUMPY_NAMES[tensor.datatype]).newbyteorder("<")
            size = int(np.prod(shape, dtype=np.int64))
            answers[tensor.name] = np.frombuffer(found, dtype, size, at).reshape(shape).astype(dtype.newbyteorder("="))
            at += size * dtype.itemsize
        return answers if outputs is None else {name: answers[name] for name in outputs}

    def bind(self, carry: Mapping[str, str], initial: Tensors) -> Binding:
        """Not here: each run is a process of its own."""
        raise TargetError(f"{self._file}: {NAME} keeps nothing between runs")

    def close(self) -> None:
        """Nothing is held."""

    def _feed(self, tensors: Tensors) -> dict[str, object]:
        """Send the inputs and give the flags that name them."""
        phone = self._phone
        names = layer_names([t.name for t in self._spec.inputs])
        shapes, files = [], []
        for number, (tensor, name) in enumerate(zip(self._spec.inputs, names)):
            array = np.ascontiguousarray(tensors[tensor.name])
            if array.ndim == 0:
                raise phone.remember(TargetError(f"{self._file}: {NAME} cannot be given the scalar {tensor.name!r}"))
            there = f"{phone.folder}/{self._name}-{number}"
            put_bytes(phone, array.astype(array.dtype.newbyteorder("<")).tobytes(), there)
            shapes.append(",".join(map(str, array.shape)))
            files.append(f"{name}:{there}")
        flags: dict[str, object] = {"graph": self._path, "input_layer": ",".join(names)}
        flags |= {"input_layer_shape": ":".join(shapes), "input_layer_value_files": ",".join(files)}
        key = signature_key(self._model)
        return {**flags, "signature_to_run_for": key} if key else flags

    def _call(self, flags: Mapping[str, object]) -> bytes:
        phone = self._phone
        limit_s = phone.left_s()
        with tempfile.TemporaryDirectory(prefix="edgekit-phone-") as scratch:
            try:
                ended = phone.runner.run(phone.folder, flags, timeout_s=limit_s)
                if ended.code == 0 and parse_log(ended.stdout, ended.stderr).unknown_flags:
                    unknown = ", ".join(parse_log(ended.stdout, ended.stderr).unknown_flags)
                    raise TargetError(f"the runner is too old for the golden check: it does not know {unknown}")
                if ended.code == 0:
                    local = Path(scratch) / "result"
                    phone.runner.device.transport.get(str(flags["output_filepath"]), local, timeout_s=SHORT_S)
                    return local.read_bytes()
            except EdgekitError as error:
                raise phone.remember(error) from None
        if ended.code > 128 and ended.code not in OURS:
            raise phone.remember(phone.runner.told(ended))
        raise GraphRefused(f"{self._file}: {NAME} ended with {ended.code}: {complaints(ended.stdout, ended.stderr)}")


def put_bytes(phone: Phone, data: bytes, there: str) -> None:
    """Write a file of the device; what fails is trouble, and no answer of the graph."""
    with tempfile.NamedTemporaryFile(prefix="edgekit-phone-") as file:
        file.write(data)
        file.flush()
        try:
            timeout_s = transfer_timeout_s(len(data))
            transport = phone.runner.device.transport
            transport.put(Path(file.name), there, start=0, size=len(data), append=False, timeout_s=timeout_s)
        except EdgekitError as error:
            raise phone.remember(error) from None


def _tensor(name: str, datatype: str, shape: tuple[int, ...] | None) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape or (), quantization=None)  # type: ignore[arg-type]


def layer_names(names: Sequence[str]) -> list[str]:
    """Names for the flags: the tensors' own where no comma or colon breaks them, else made ones, which it allows."""
    plain = all(_PLAIN.fullmatch(name) for name in names)
    return list(names) if plain else [f"input{number}" for number in range(len(names))]


def signature_key(model: TfliteModel) -> str | None:
    """The signature to name where there are several: the one over all of the graph's own inputs."""
    if len(model.signatures) < 2:
        return None
    wanted = {value.name for value in model.inputs}
    return next((s.key for s in model.signatures if set(s.inputs.values()) == wanted), None)


def output_shapes(outputs: Sequence[TensorSpec], size_bytes: int) -> list[tuple[int, ...]]:
    """The shapes whose bytes add up to what came back; free axes are all the same number. Raises GraphRefused."""
    for rows in [1, *range(2, 65537)]:
        shapes = [tuple(rows if axis < 0 else axis for axis in tensor.shape) for tensor in outputs]
        sizes = [
            int(np.prod(shape, dtype=np.int64)) * np.dtype(NUMPY_NAMES[t.datatype]).itemsize
            for shape, t in zip(shapes, outputs)
        ]
        if sum(sizes) == size_bytes:
            return shapes
        if sum(sizes) > size_bytes or shapes == [t.shape for t in outputs]:
            break
    told = ", ".join(f"{t.datatype} {list(t.shape)}" for t in outputs)
    raise GraphRefused(f"{NAME} gave {size_bytes} bytes of outputs, which are not {told}")


def phone_check(bundle: str, path: Path) -> HostDriven:
    """The golden check of a device without Python: its graphs run there, the rest here. path: the runner."""

    def examine(device: Device, owner: Owner, release: str, timeout_s: float) -> Verdict:
        def locked(body: str, *words: str, timeout_s: float) -> list[str]:
            return fenced(device, owner, body, *words, timeout_s=timeout_s)

        runner = install(device, path, locked)
        folder = incoming_folder(device.root, f"check-{secrets.token_hex(8)}")
        deadline_s = time.monotonic() + timeout_s
        try:
            locked('mkdir -p "$1"', folder, timeout_s=SHORT_S)
            phone, report = _check(runner, folder, bundle, release, deadline_s)
        finally:
            with contextlib.suppress(EdgekitError):  # the next deployment sweeps it
                run_script(device, 'rm -rf "$1"', folder, timeout_s=SHORT_S)
        if phone.trouble is not None:
            raise phone.trouble
        if phone.late:
            return Verdict(code=TIMED_OUT, output="", said="")
        failed = [line for line in str(report).splitlines() if "FAIL" in line]
        code = 0 if report.passed else GateFailed.exit_code
        return Verdict(code=code, output=json.dumps(report.to_dict()), said="\n".join(failed))

    return HostDriven(examine)


def _check(
    runner: Runner, folder: str, bundle: str, release: str, deadline_s: float
) -> tuple[Phone, golden.CheckReport]:
    phone = Phone(runner, folder, 0, deadline_s)
    with open_there(bundle, phone, release) as predictor:
        phone.threads = predictor.manifest.run.threads
        return phone, golden.check(predictor)


def open_there(bundle: str, phone: Phone, release: str) -> Predictor:
    """The predictor of a bundle whose graphs run in a release folder of the device."""
    return load_elsewhere(bundle, phone.opener(release))
