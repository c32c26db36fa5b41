"""What a runtime keeps of a graph: a second load gives the same bits, and a cache that is wrong is made again."""

from __future__ import annotations

import os
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_manifest import build_manifest
from graphs import big_onnx

import edgekit
from edgekit.bundle import BundleDirectory, write_bundle
from edgekit.errors import IntegrityError
from edgekit.manifest import GraphSpec
from edgekit.runtimes import optimised
from edgekit.specs.post import Raw
from edgekit.specs.tensor import Port, TensorInput

WIDTH = 256
X = np.linspace(-1, 1, WIDTH, dtype=np.float32)[None]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(tmp_path: Path, cache: Path) -> Path:
    """A bundle with one graph of 1 MB that takes and gives a tensor."""
    content = big_onnx(tmp_path / "big.onnx", layers=4, width=WIDTH).read_bytes()
    shape = (1, WIDTH)
    graph = GraphSpec(
        name="model",
        file="model.onnx",
        data=None,
        runtime="onnxruntime",
        role="model",
        precision="float32",
        inputs=(Port(name="x0", value="x", datatype="FP32", shape=shape, quantization=None),),
        outputs=(Port(name="x4", value="y", datatype="FP32", shape=shape, quantization=None),),
        state=(),
        constants=(),
    )
    files = {"model.onnx": content}
    manifest = build_manifest(
        files,
        inputs={"x": TensorInput(kind="tensor", value="x", datatype="FP32", shape=shape)},
        graphs=(graph,),
        postprocess=Raw(task="raw", values=("y",)),
        golden=(),
        task="feature-extraction",
    )
    path = tmp_path / "bundle.edgekit"
    write_bundle(path, manifest, lambda name: BytesIO(files[name]))
    return path


def answer(bundle: Path) -> bytes:
    with edgekit.load(bundle, threads=1) as predictor:
        result: Any = predictor.predict(x=X)
    return bytes(result.tensors["y"].tobytes())


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "graphs").iterdir())


def facts(entry: Path) -> list[tuple[str, int, int]]:
    return [(p.name, p.stat().st_ino, p.stat().st_mtime_ns) for p in sorted(entry.iterdir())]


def test_a_second_load_uses_what_the_first_kept_and_gives_the_same_bits(bundle: Path, cache: Path) -> None:
    first = answer(bundle)
    (entry,) = entries(cache)
    assert {p.name for p in entry.iterdir()} == {"graph.onnx", "graph.data"}
    before = facts(entry)
    assert answer(bundle) == first
    assert facts(entry) == before


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "foreign"])
def test_a_wrong_cache_is_made_again(damage: str, bundle: Path, cache: Path) -> None:
    first = answer(bundle)
    (entry,) = entries(cache)
    before = facts(entry)
    victim = entry / ("graph.onnx" if damage == "foreign" else "graph.data")
    content = bytearray(victim.read_bytes())
    victim.chmod(0o644)
    if damage == "flip":
        content[len(content) // 2] ^= 0xFF
        victim.write_bytes(content)
    elif damage == "cut":
        victim.write_bytes(content[: len(content) // 2])
    elif damage == "gone":
        victim.unlink()
    else:
        victim.write_bytes(b"no graph")
    assert answer(bundle) == first
    assert facts(entry) != before
    assert answer(bundle) == first


def test_what_was_kept_is_not_trusted_before_the_graph_was_confirmed(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(self: BundleDirectory, name: str) -> None:
        raise IntegrityError(f"{name} was replaced")

    with monkeypatch.context() as patched:
        patched.setattr(BundleDirectory, "confirm", swapped)
        with pytest.raises(IntegrityError):
            edgekit.load(bundle)
    (entry,) = entries(cache)
    (entry / "graph.onnx").write_bytes(b"made of another graph")
    answer(bundle)
    assert (entry / "graph.onnx").stat().st_size > 100


def test_a_cache_that_cannot_be_written_is_done_without(bundle: Path, cache: Path) -> None:
    cache.mkdir()
    (cache / "graphs").write_text("in the way", "utf-8")
    assert answer(bundle) == answer(bundle)


def test_a_release_keeps_its_graphs_in_the_devices_caches(bundle: Path, cache: Path, tmp_path: Path) -> None:
    release = tmp_path / "root" / "apps" / "app" / "releases" / "id" / "bundle"
    answer(bundle)
    (unpacked,) = (cache / "bundles").iterdir()
    release.mkdir(parents=True)
    for file in unpacked.iterdir():
        (release / file.name).write_bytes(file.read_bytes())
    assert answer(release) == answer(bundle)
    (entry,) = (tmp_path / "root" / "caches").iterdir()
    assert entry.name == entries(cache)[0].name


def test_other_runtimes_forms_of_the_same_graph_go(bundle: Path, cache: Path) -> None:
    answer(bundle)
    (entry,) = entries(cache)
    old = entry.with_name(entry.name.split("-")[0] + "-onnxruntime-1.0.0-0123456789abcdef")
    entry.rename(old)
    answer(bundle)
    assert entries(cache) == [entry]


def test_all_that_is_kept_is_bounded_and_the_longest_unused_goes(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for two graphs and a half: of three, the one whose last load is longest ago goes, and is made again."""
    answer(bundle)
    (first,) = entries(cache)
    size_bytes = sum(p.stat().st_size for p in first.iterdir())
    monkeypatch.setattr(optimised, "ALL_BYTES", int(2.5 * size_bytes))
    others = []
    for place in ("a", "b"):
        other = cache / "graphs" / f"{place * 32}{first.name[32:]}"
        shutil.copytree(first, other)
        others.append(other)
    os.utime(others[0], ns=(1, 1))
    os.utime(others[1], ns=(2, 2))
    os.utime(first, ns=(0, 0))
    answer(bundle)  # used: now the youngest
    assert len(entries(cache)) == 3
    optimised.trust(others[1])
    assert entries(cache) == sorted([first, others[1]])
    assert answer(bundle) == answer(bundle)


def test_a_cache_that_may_only_be_read_is_used(bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system refuses to note that an entry was used: it serves, and stays as it is."""
    expected = answer(bundle)
    before = facts(entries(cache)[0])

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr("os.utime", refuse)
    assert answer(bundle) == expected
    assert facts(entries(cache)[0]) == before
