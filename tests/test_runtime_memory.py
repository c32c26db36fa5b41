"""R2 and 'It shows': loading a model of over 100 MB takes at most 1.4 times the memory the runtime alone takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from graphs import big_onnx, big_tflite

from edgekit.runtimes.loading import installed

CHILD = """
import sys
def peak_kib():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
how, path = sys.argv[1:]
from edgekit.runtimes.graph import Settings
from edgekit.runtimes.loading import load_graph
import edgekit.runtimes.{module}
{imports}
before = peak_kib()
if how == "ours":
    settings = Settings(threads=1, spinning=False, providers=(), cache=None)
    graph = load_graph({name!r}, path, settings, None)
else:
    {alone}
print(peak_kib() - before)
"""
ONNX = CHILD.format(
    module="onnx",
    imports="import onnxruntime",
    name="onnxruntime",
    alone="graph = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])",
)
LITERT = CHILD.format(
    module="litert",
    imports="interpreter = edgekit.runtimes.litert._interpreter_module()[0]",
    name="litert",
    alone="graph = interpreter.Interpreter(model_path=path, num_threads=1); graph.allocate_tensors()",
)


def peak_kib(code: str, how: str, path: Path) -> int:
    """Growth of the peak resident size of a fresh process while it loads the file."""
    done = subprocess.run([sys.executable, "-c", code, how, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def compare(code: str, path: Path) -> None:
    assert path.stat().st_size >= 100_000_000
    ours, alone = peak_kib(code, "ours", path), peak_kib(code, "alone", path)
    assert alone > 50_000
    assert ours <= 1.4 * alone


def test_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    compare(ONNX, big_onnx(tmp_path / "m.onnx", layers=25))


def test_tflite(tmp_path: Path) -> None:
    if not {"ai-edge-litert", "tflite-runtime"} & installed().keys():
        pytest.skip("no TFLite interpreter here")
    compare(LITERT, big_tflite(tmp_path / "m.tflite", layers=25))
