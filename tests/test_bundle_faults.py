"""P2: whatever stops a writer at whatever step, the old bundle or the new one is there, whole, and nothing else."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from build_manifest import build_bundle, build_files, build_manifest

from edgekit import storage
from edgekit.bundle import open_bundle, verify, write_bundle
from edgekit.errors import BundleError, IntegrityError, ManifestError

DRIVER = Path(__file__).with_name("bundle_faults.py")


def drive(what: str) -> dict[str, Any]:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # thousands of syncs; what they do is not the point
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        command = [sys.executable, str(DRIVER), what, os.path.join(folder, "work")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    print({**result, "calls": len(result["calls"])})
    return result


@pytest.fixture(scope="module")
def writing() -> dict[str, Any]:
    return drive("write")


def test_p2_a_bundle_is_never_torn(writing: dict[str, Any]) -> None:
    """Each system call of a write: killed before it, killed half way, ENOSPC, EIO, lasting ENOSPC, short write."""
    result = writing
    assert (result["torn"], result["left"], result["unnamed"]) == ([], [], [])
    calls = result["calls"]
    assert len(calls) > 30
    assert result["outcomes"]["killed"] > len(calls)
    assert result["outcomes"]["BundleError"] > len(calls)
    assert result["old"] > len(calls)
    assert result["new"] > 5


def test_p2_the_new_file_is_synced_before_it_is_named_and_the_folder_after(writing: dict[str, Any]) -> None:
    calls = writing["calls"]
    renamed = calls.index("replace")
    assert not {"write", "pwrite", "fchmod"} & set(calls[renamed:])
    assert calls[:renamed][-1] == "fsync"
    assert "fsync" in calls[renamed:]


def test_p2_a_cache_entry_is_never_torn() -> None:
    """The same for opening a bundle file with an empty cache; the next reader finds nothing in its way."""
    result = drive("open")
    assert (result["torn"], result["left"]) == ([], [])
    assert len(result["calls"]) > 60
    assert result["outcomes"]["killed"] > 60
    assert result["outcomes"]["BundleError"] > 60
    assert result["old"] > 60
    assert result["new"] > 20


@pytest.fixture
def small_files() -> Iterator[None]:
    """The kernel refuses files above 6,000 bytes: a real write error in the middle."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_error_of_the_kernel_leaves_the_old_file(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = tmp_path / "b.edgekit"
    old = build_manifest(build_files(1))
    build_bundle(path, build_files(1))
    request.getfixturevalue("small_files")
    with pytest.raises(BundleError, match="cannot write the bundle") as caught:
        build_bundle(path, {**build_files(2), "zz": bytes(9000)})
    assert str(path) in str(caught.value)
    assert verify(path) == old
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system with room for 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("mounting needs root and Linux")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_named_with_its_free_space(tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_disk / "b.edgekit"
    build_bundle(path)
    before = path.read_bytes()
    for checked_before in (True, False):
        if not checked_before:  # as where statvfs does not tell
            monkeypatch.setattr(os, "statvfs", _unknown(os.statvfs))
        with pytest.raises(BundleError, match="No space left on device") as caught:
            build_bundle(path, {**build_files(), "zz": bytes(100_000)})
        assert str(path) in str(caught.value)
        if checked_before:
            assert "bytes are free" in str(caught.value)
        assert path.read_bytes() == before
        assert list(tiny_disk.iterdir()) == [path]


def _unknown(real: Any) -> Any:
    class Unknown:
        f_blocks = f_bavail = f_frsize = 0

    return lambda folder: Unknown


def test_a_full_cache_is_named_and_left_empty(tiny_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tiny_disk / "cache"))
    path = tmp_path / "b.edgekit"
    build_bundle(path, {**build_files(), "zz": bytes(100_000)})
    for checked_before in (True, False):
        if not checked_before:
            monkeypatch.setattr(os, "statvfs", _unknown(os.statvfs))
        with pytest.raises(BundleError, match="No space left on device") as caught:
            open_bundle(path)
        assert "EDGEKIT_CACHE" in str(caught.value)
        assert not [p for p in tiny_disk.rglob("*") if p.is_file()]


def test_a_source_that_is_not_what_the_manifest_says_is_refused(tmp_path: Path) -> None:
    files, path = build_files(), tmp_path / "b"
    manifest = build_manifest(files)
    others = {"shorter": files["image.onnx"][:-1], "longer": files["image.onnx"] + b"x", "other": bytes(500)}
    for other in others.values():
        with pytest.raises(IntegrityError, match=r"image\.onnx is not the file that the manifest records"):
            write_bundle(path, manifest, lambda name, other=other: io.BytesIO({**files, "image.onnx": other}[name]))
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(BundleError, match=r"cannot read audio\.tflite for the bundle: No such file"):
        write_bundle(path, manifest, lambda name: tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent" / "b", Path("/proc/b"), tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(BundleError, match="cannot write the bundle") as caught:
            build_bundle(path)
        assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    manifest = build_manifest()
    manifest.__dict__["license"] = float("nan")
    with pytest.raises(ManifestError):
        write_bundle(tmp_path / "b", manifest, lambda name: io.BytesIO(build_files()[name]))
    manifest.__dict__["license"] = 7
    with pytest.raises(ManifestError, match="license"):
        write_bundle(tmp_path / "b", manifest, lambda name: io.BytesIO(build_files()[name]))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_swept_and_a_living_one_is_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "b"
    dead = tmp_path / ".b.0123456789abcdef.part"
    dead.write_bytes(b"half")
    foreign = [tmp_path / ".c.0123456789abcdef.part", tmp_path / ".b.part", tmp_path / "b.0123456789abcdef.part"]
    for other in foreign:
        other.touch()
    with storage.replacing(path) as first:
        assert not dead.exists()
        with storage.replacing(path) as second:
            os.write(second, b"second")
        os.write(first, b"first")
    assert path.read_bytes() == b"first"
    assert set(tmp_path.iterdir()) == {path, *foreign}


def test_an_exception_in_the_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "b"
    storage.write_file(path, b"old", mode=0o600)
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), storage.replacing(path) as descriptor:  # noqa: PT012
            os.write(descriptor, b"new")
            raise error
    assert path.read_bytes() == b"old"
    assert path.stat().st_mode & 0o7777 == 0o600
    with pytest.raises(ValueError, match="stop"), storage.new_folder(tmp_path / "d") as folder:  # noqa: PT012
        (folder / "x").touch()
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with storage.new_folder(tmp_path / "d") as folder:
        (folder / "in").mkdir()
        (folder / "in" / "x").write_bytes(b"1")
        assert not (tmp_path / "d").exists()
    assert (tmp_path / "d" / "in" / "x").read_bytes() == b"1"
    with pytest.raises(OSError, match="not empty"), storage.new_folder(tmp_path / "d"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "d"]
    storage.set_aside(tmp_path / "d")
    storage.set_aside(tmp_path / "d")
    assert list(tmp_path.iterdir()) == []
