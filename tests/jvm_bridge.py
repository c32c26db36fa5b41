"""The Java library under a JVM: compiled once, fed through a pipe; its graphs are run here by the real runtime."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.runtimes.graph import Graph
from edgekit.specs.tensor import DATATYPES, NUMPY_NAMES

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "edgekit" / "export" / "java"
BRIDGE = ROOT / "tests" / "jvm"
RELEASE = "11"


def require_jdk() -> None:
    """Skip without a JDK, saying so; `EDGEKIT_REQUIRE_JDK=1` makes it a must."""
    missing = [tool for tool in ("javac", "java") if shutil.which(tool) is None]
    if missing and os.environ.get("EDGEKIT_REQUIRE_JDK") == "1":
        pytest.fail(f"{' and '.join(missing)} required here and absent")
    if missing:
        pytest.skip(f"no {' and '.join(missing)} here: the Java library cannot be compiled and run")


def compile_java(folders: list[Path], output: Path, *, classpath: Path | None = None) -> None:
    """Compile every source below the folders against the JDK (and `classpath`); warnings are errors."""
    sources = [str(p) for folder in folders for p in sorted(folder.rglob("*.java"))]
    path = [] if classpath is None else ["-classpath", str(classpath)]
    command = ["javac", "--release", RELEASE, "-Xlint:all", "-Werror", "-encoding", "UTF-8", "-d", str(output), *path]
    done = subprocess.run([*command, *sources], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class JavaError(Exception):
    """What the library raised: `kind` is the class."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class Java:
    """One JVM that answers requests."""

    def __init__(self, classes: Path) -> None:
        self._process = subprocess.Popen(
            ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=4", "-cp", str(classes), "dev.edgekit.Bridge"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.graphs: dict[str, Graph] = {}

    def ask(self, do: str, tensors: Mapping[str, np.ndarray] | None = None, **head: Any) -> tuple[Any, dict[str, Any]]:
        """The answer's JSON and its tensors; raises JavaError."""
        self._send({"do": do, **head}, tensors or {})
        while True:
            answer, arrays = self._receive()
            if "graph" not in answer:
                break
            self._serve(answer, arrays)
        if "error" in answer:
            raise JavaError(answer["error"], answer["message"])
        return answer, arrays

    def _serve(self, question: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        graph = self.graphs[question["graph"]]
        if question["what"] == "inputs":
            shapes = {
                t.name: np.zeros([max(n, 1) for n in t.shape], NUMPY_NAMES[t.datatype]) for t in graph.spec.inputs
            }
            self._send({}, shapes)
        else:
            self._send({}, graph.run(arrays))

    def _send(self, head: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
        facts = [
            {"name": name, "datatype": DATATYPES[array.dtype.name], "shape": list(array.shape)}
            for name, array in tensors.items()
        ]
        data = json.dumps({**head, "tensors": facts}).encode()
        pipe = self._process.stdin
        assert pipe is not None
        pipe.write(struct.pack(">I", len(data)) + data)
        for array in tensors.values():
            pipe.write(np.ascontiguousarray(array).tobytes())
        pipe.flush()

    def _receive(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        pipe = self._process.stdout
        assert pipe is not None
        size = pipe.read(4)
        assert len(size) == 4, "the JVM ended"
        head = json.loads(pipe.read(struct.unpack(">I", size)[0]))
        arrays = {}
        for fact in head.pop("tensors"):
            dtype = np.dtype(NUMPY_NAMES[fact["datatype"]])
            count = int(np.prod(fact["shape"]))
            arrays[fact["name"]] = np.frombuffer(pipe.read(count * dtype.itemsize), dtype).reshape(fact["shape"])
        return head, arrays

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@cache
def compiled() -> Path:
    """The classes of library and bridge, compiled once per session."""
    require_jdk()
    folder = Path(tempfile.mkdtemp(prefix="edgekit-java-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    compile_java([SOURCES / "core", BRIDGE], folder)
    return folder


@contextmanager
def start_java() -> Iterator[Java]:
    """The library, running."""
    bridge = Java(compiled())
    try:
        yield bridge
    finally:
        bridge.close()
