"""R2, R3: a bundle is unpacked once, and whatever is loaded from its folder is what was recorded."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from build_manifest import build_bundle, build_files

from edgekit import stamps
from edgekit.bundle import BundleDirectory, open_bundle
from edgekit.errors import BundleError, ClosedError, IntegrityError
from edgekit.manifest import Manifest, dump_manifest

FILES = build_files()
NAME, NESTED = "image.onnx", "text/tokenizer.json"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    build_bundle(tmp_path / "b.edgekit")
    return tmp_path / "b.edgekit"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "folder")


def make_folder(folder: Path) -> Path:
    scratch = folder.with_name(folder.name + ".scratch")
    manifest: Manifest = build_bundle(scratch)
    scratch.unlink()
    for name, data in {**FILES, "manifest.json": dump_manifest(manifest)}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def rest() -> None:
    """Let the clock pass the tick in which the files were written."""
    time.sleep(0.03)


def hashed(monkeypatch: pytest.MonkeyPatch, action: Callable[[], BundleDirectory]) -> int:
    """Bytes that were hashed while a bundle was opened."""
    total = 0
    real = hashlib.sha256

    class Counting:
        def __init__(self, data: bytes = b"") -> None:
            self.inner = real()
            self.update(data)

        def update(self, data: bytes) -> None:
            nonlocal total
            total += len(data)
            self.inner.update(data)

        def hexdigest(self) -> str:
            return self.inner.hexdigest()

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "sha256", Counting)
        action().close()
    return total


def test_a_file_is_unpacked_once_into_the_cache(bundle: Path, cache: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    with open_bundle(bundle) as opened:
        assert opened.path == cache / "bundles" / opened.digest
        assert opened.digest == hashlib.sha256((opened.path / "manifest.json").read_bytes()).hexdigest()
        for name, data in FILES.items():
            assert (opened.path / name).read_bytes() == opened.read(name, 1000) == data
            assert Path(opened.path_for_loading(name)).read_bytes() == data
            opened.confirm(name)
            assert (opened.path / name).stat().st_mode & 0o7777 == 0o444
        for inner in (opened.path, opened.path / "text"):
            assert inner.stat().st_mode & 0o7777 == 0o755
        inode = opened.path.stat().st_ino
    assert sorted(tmp_path.iterdir()) == sorted([*before, cache])
    with open_bundle(bundle) as opened:
        assert opened.path.stat().st_ino == inode


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="macOS has no /proc")
def test_a_path_for_loading_leads_through_the_open_folder(folder: Path) -> None:
    with open_bundle(folder) as opened:
        assert opened.path_for_loading(NESTED) == f"/proc/self/fd/{opened.descriptor}/{NESTED}"
        folder.rename(folder.with_name("elsewhere"))
        make_folder(folder)
        (folder / NESTED).write_bytes(b"swapped")
        assert Path(opened.path_for_loading(NESTED)).read_bytes() == FILES[NESTED]
        opened.confirm(NESTED)


def test_a_folder_is_used_in_place(folder: Path, cache: Path) -> None:
    with open_bundle(folder, verify="full") as opened:
        assert opened.path == folder
        assert opened.read(NAME, 500) == FILES[NAME]
    assert not (cache / "bundles").exists()
    link = folder.with_name("link")
    link.symlink_to(folder)
    open_bundle(link).close()


def test_descriptors_are_closed(bundle: Path, folder: Path) -> None:
    before = set(os.listdir("/dev/fd"))
    count = len(before)
    for path in (bundle, folder):
        with open_bundle(path) as opened:
            assert len(os.listdir("/dev/fd")) > count
            for descriptor in set(os.listdir("/dev/fd")) - before:
                if os.path.exists(f"/dev/fd/{descriptor}"):  # the listing's own is gone
                    assert not os.get_inheritable(int(descriptor))
        opened.close()
        assert len(os.listdir("/dev/fd")) == count
    (folder / NAME).write_bytes(b"")
    for _ in range(3):
        with pytest.raises(BundleError):
            open_bundle(folder)
    assert len(os.listdir("/dev/fd")) == count


def test_a_closed_bundle_says_so(folder: Path) -> None:
    opened = open_bundle(folder)
    opened.close()
    opened.close()
    for use in (lambda: opened.read(NAME, 1000), lambda: opened.path_for_loading(NAME), lambda: opened.confirm(NAME)):
        with pytest.raises(ClosedError):
            use()


def test_only_listed_files_are_read_and_only_up_to_the_limit(folder: Path) -> None:
    with open_bundle(folder) as opened:
        for name in ("absent", "manifest.json", "../folder/image.onnx", "/etc/passwd", "", "text"):
            with pytest.raises(BundleError, match="lists no file"):
                opened.read(name, 1000)
            with pytest.raises(BundleError, match="lists no file"):
                opened.path_for_loading(name)
        with pytest.raises(BundleError, match="has 500 bytes, at most 499"):
            opened.read(NAME, 499)


def replace_by(make: Callable[[Path], None], name: str = NAME) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        make(path)

    return damage


def other_bytes(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"#")


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "altered": (lambda f: other_bytes(f / NAME), "image.onnx is altered: expected sha256"),
    "altered weights": (lambda f: other_bytes(f / "image.onnx.data"), "image.onnx.data is altered"),
    "shorter": (lambda f: os.truncate(f / NAME, 499), "expected 500 bytes, got 499"),
    "longer": (lambda f: os.truncate(f / NAME, 501), "expected 500 bytes, got 501"),
    "missing": (lambda f: (f / NAME).unlink(), "image.onnx is missing"),
    "missing folder": (lambda f: shutil.rmtree(f / "text"), "text"),
    "missing manifest": (lambda f: (f / "manifest.json").unlink(), "manifest.json is missing"),
    "other manifest": (lambda f: other_bytes(f / "manifest.json"), "manifest"),
    "empty manifest": (lambda f: os.truncate(f / "manifest.json", 0), "manifest"),
    "huge manifest": (lambda f: os.truncate(f / "manifest.json", 1 << 40), "at most 1,048,576 bytes"),
    "extra file": (lambda f: (f / "extra").touch(), "holds 'extra', which is not in the manifest"),
    "extra nested": (lambda f: (f / "text" / "x").touch(), "holds 'x', which is not in the manifest"),
    "extra folder": (lambda f: (f / "more").mkdir(), "holds 'more', which is not in the manifest"),
    "folder": (replace_by(lambda p: p.mkdir()), "is not a plain file"),
    "pipe": (replace_by(os.mkfifo), "is not a plain file"),
    "link": (replace_by(lambda p: p.symlink_to("/etc/passwd")), "is a link"),
    "link to itself": (replace_by(lambda p: p.symlink_to(p)), "is a link"),
    "folder link": (
        lambda f: ((f / "text").rename(f.parent / "text"), (f / "text").symlink_to(f.parent / "text")),  # type: ignore[dict-item, return-value]
        "text",
    ),
    "file for folder": (replace_by(lambda p: p.touch(), "text"), "text"),
}


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("verify", ["stamp", "full"])
def test_a_damaged_folder_is_refused_by_name(folder: Path, kind: str, verify: str) -> None:
    """The stamp of the good folder is there and must not help."""
    rest()
    open_bundle(folder).close()
    damage, words = DAMAGES[kind]
    damage(folder)
    with pytest.raises(BundleError) as caught:
        open_bundle(folder, verify=verify)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("verify", ["stamp", "full"])
def test_a_damaged_cache_entry_is_rebuilt(bundle: Path, cache: Path, kind: str, verify: str) -> None:
    with open_bundle(bundle) as opened:
        entry = opened.path
    rest()
    open_bundle(bundle).close()
    (entry / NAME).chmod(0o644)
    (entry / "manifest.json").chmod(0o644)
    DAMAGES[kind][0](entry)
    with open_bundle(bundle, verify=verify) as opened:  # type: ignore[arg-type]
        assert {name: opened.read(name, 1000) for name in FILES} == FILES
    assert [p.name for p in (cache / "bundles").iterdir() if p.name != "text"] == [entry.name]


@pytest.mark.parametrize("kind", ["file", "empty folder", "dangling link", "link"])
def test_a_cache_entry_of_another_kind_is_rebuilt(bundle: Path, cache: Path, tmp_path: Path, kind: str) -> None:
    with open_bundle(bundle) as opened:
        entry = opened.path
    shutil.rmtree(entry)
    if kind == "file":
        entry.touch()
    elif kind == "empty folder":
        entry.mkdir()
    else:
        entry.symlink_to(tmp_path if kind == "link" else tmp_path / "absent")
    before = sorted(tmp_path.iterdir())
    with open_bundle(bundle) as opened:
        assert opened.read(NAME, 500) == FILES[NAME]
        assert not opened.path.is_symlink()
    assert sorted(tmp_path.iterdir()) == before


def test_a_damaged_file_is_refused_though_the_cache_holds_the_good_one(bundle: Path) -> None:
    open_bundle(bundle).close()
    rest()
    open_bundle(bundle).close()
    good = bundle.read_bytes()
    fact = bundle.stat()
    for at in range(0, len(good), 97):
        bundle.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        os.utime(bundle, ns=(fact.st_atime_ns, fact.st_mtime_ns))  # ctime tells
        with pytest.raises(BundleError):
            open_bundle(bundle)


def test_a_stamp_saves_hashing_and_full_does_not_use_it(
    bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = sum(map(len, FILES.values()))
    rest()
    for path in (bundle, folder):
        assert hashed(monkeypatch, lambda path=path: open_bundle(path)) >= payload  # type: ignore[misc]
        rest()
        again = hashed(monkeypatch, lambda path=path: open_bundle(path))  # type: ignore[misc]
        size = len((folder / "manifest.json").read_bytes())
        assert again < 3 * size + 500  # the manifest's digest, and the stamps' names
        full = hashed(monkeypatch, lambda path=path: open_bundle(path, verify="full"))  # type: ignore[misc]
        assert full >= again + payload


def test_touching_a_file_means_hashing_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rest()
    open_bundle(folder).close()
    stamped = hashed(monkeypatch, lambda: open_bundle(folder))
    for change in (
        lambda p: os.utime(p),
        lambda p: p.chmod(0o600),
        lambda p: (p.rename(p.with_name("x")), p.with_name("x").rename(p)),
        lambda p: (shutil.copy2(p, p.parent.parent / "x"), os.replace(p.parent.parent / "x", p)),
    ):
        change(folder / NAME)
        assert hashed(monkeypatch, lambda: open_bundle(folder)) > stamped
        rest()
        assert hashed(monkeypatch, lambda: open_bundle(folder)) == stamped


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"\x00" * 100, b"[" * 100_000, b"x" * 1_000_000, None])
def test_a_bad_stamp_means_hashing(folder: Path, cache: Path, content: bytes | None) -> None:
    rest()
    open_bundle(folder).close()
    (stamp,) = (cache / "stamps").iterdir()
    other_bytes(folder / NAME)
    if content is None:
        document = json.loads(stamp.read_bytes())
        document["files"] = dict.fromkeys(document["files"])
        content = json.dumps(document).encode()
    stamp.write_bytes(content)
    with pytest.raises(IntegrityError):
        open_bundle(folder)


def test_a_stamp_that_cannot_be_written_or_read_changes_nothing(folder: Path, cache: Path) -> None:
    for make in (lambda: cache.touch(), lambda: (cache / "stamps").mkdir(parents=True)):
        make()
        if (cache / "stamps").is_dir():
            real = os.path.realpath(folder)
            (cache / "stamps" / f"{hashlib.sha256(os.fsencode(real)).hexdigest()}.json").mkdir()
        for _ in range(2):
            with open_bundle(folder) as opened:
                assert opened.read(NAME, 500) == FILES[NAME]
        if cache.is_file():
            cache.unlink()


def test_a_cache_that_cannot_be_written_is_named(bundle: Path, cache: Path) -> None:
    cache.touch()
    with pytest.raises(BundleError, match=r"cannot unpack .* into the cache") as caught:
        open_bundle(bundle)
    assert "EDGEKIT_CACHE" in str(caught.value)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert stamps.cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("EDGEKIT_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert stamps.cache_folder() == tmp_path / "xdg" / "edgekit"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for other in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", other)
        assert stamps.cache_folder() == tmp_path / "home" / ".cache" / "edgekit"


CHILD = """
import sys
from edgekit.bundle import open_bundle
sys.stdin.read(1)
with open_bundle(sys.argv[1]) as opened:
    with open(opened.path_for_loading("image.onnx"), "rb") as stream:
        print(opened.path, len(opened.read("image.onnx", 500)), len(stream.read()))
"""


@pytest.mark.parametrize("damaged", [False, True])
def test_eight_processes_at_once_share_one_entry(bundle: Path, cache: Path, damaged: bool) -> None:
    if damaged:
        with open_bundle(bundle) as opened:
            os.chmod(opened.path / NAME, 0o644)
            os.truncate(opened.path / NAME, 7)
    command = [sys.executable, "-c", CHILD, str(bundle)]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    answers = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("x")
        child.stdin.flush()
    for child in children:
        answers.append(child.communicate()[0])
        assert child.returncode == 0
    assert len(set(answers)) == 1
    assert answers[0].endswith(" 500 500\n")
    assert len(list((cache / "bundles").iterdir())) == 1


def test_threads_share_one_open_bundle(folder: Path) -> None:
    wrong: list[str] = []

    def work() -> None:
        for name, data in list(FILES.items()) * 20:
            opened.confirm(name)
            if opened.read(name, 1000) != data or Path(opened.path_for_loading(name)).read_bytes() != data:
                wrong.append(name)

    with open_bundle(folder) as opened:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_verify_takes_two_words(folder: Path) -> None:
    with pytest.raises(BundleError, match="'stamp' or 'full'"):
        open_bundle(folder, verify="no")  # type: ignore[arg-type]
