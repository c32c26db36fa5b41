"""R2: what was hashed is what was loaded; a swap or a write at any step of a load is noticed, or changed nothing."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from build_manifest import build_bundle, build_files, build_manifest

from edgekit.bundle import open_bundle
from edgekit.errors import BundleError, IntegrityError
from edgekit.manifest import dump_manifest

FILES = build_files()
EVIL = b"\xee"
TARGETS = ("image.onnx", "image.onnx.data", "text/tokenizer.json")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))


def make_folder(folder: Path) -> Path:
    for name, data in {**FILES, "manifest.json": dump_manifest(build_manifest(FILES))}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        (folder.parent / f"{folder.name}.evil").mkdir(exist_ok=True)
    for name in TARGETS:  # prepared beside, so that a swap is one rename
        evil(folder, name).write_bytes(EVIL * len(FILES[name]))
    return folder


def evil(folder: Path, name: str) -> Path:
    return folder.parent / f"{folder.name}.evil" / name.replace("/", "-")


def swap(folder: Path, name: str) -> None:
    os.replace(evil(folder, name), folder / name)


def swap_there_and_back(folder: Path, name: str) -> Callable[[], None]:
    """The first call puts the other file there, the returned one the hashed one back."""
    aside = evil(folder, name).with_suffix(".aside")
    os.rename(folder / name, aside)
    shutil.copy2(evil(folder, name), folder / name)
    return lambda: os.replace(aside, folder / name)


def swap_folder_and_back(folder: Path, name: str) -> Callable[[], None]:
    inner = (folder / name).parent
    if inner == folder:
        return swap_there_and_back(folder, name)
    aside = folder.parent / f"{folder.name}.evil" / "aside"
    inner.rename(aside)
    inner.mkdir()
    shutil.copy2(evil(folder, name), folder / name)

    def back() -> None:
        shutil.rmtree(inner)
        aside.rename(inner)

    return back


def append(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as stream:
        stream.write(EVIL)


def truncate(folder: Path, name: str) -> None:
    os.truncate(folder / name, len(FILES[name]) // 2)


def overwrite(folder: Path, name: str) -> None:
    with (folder / name).open("r+b") as stream:
        stream.write(EVIL)


def overwrite_and_hide(folder: Path, name: str) -> None:
    """The same size and the same mtime as before."""
    fact = (folder / name).stat()
    overwrite(folder, name)
    os.utime(folder / name, ns=(fact.st_atime_ns, fact.st_mtime_ns))


def overwrite_and_back(folder: Path, name: str) -> Callable[[], None]:
    fact = (folder / name).stat()
    overwrite(folder, name)

    def back() -> None:
        with (folder / name).open("r+b") as stream:
            stream.write(FILES[name])
        os.utime(folder / name, ns=(fact.st_atime_ns, fact.st_mtime_ns))

    return back


def link(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to(evil(folder, name))


def hard_link(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).hardlink_to(evil(folder, name))


def delete(folder: Path, name: str) -> None:
    (folder / name).unlink()


ATTACKS = (
    swap,
    swap_there_and_back,
    swap_folder_and_back,
    append,
    truncate,
    overwrite,
    overwrite_and_hide,
    overwrite_and_back,
    link,
    hard_link,
    delete,
)
STEPS = ("before", "hashing", "hashed", "opened", "half read", "read")


class Attacker:
    """Strikes from another thread at one step of a load, and takes it back at the next."""

    def __init__(self, attack: Callable[[Path, str], Callable[[], None] | None], folder: Path, name: str, at: str):
        self.attack, self.folder, self.name, self.at = attack, folder, name, at
        self.back: Callable[[], None] | None = None

    def step(self, now: str) -> None:
        thread = threading.Thread(target=self._act, args=(now,))
        thread.start()
        thread.join()

    def _act(self, now: str) -> None:
        if now == self.at:
            self.back = self.attack(self.folder, self.name)
        elif self.back is not None:
            self.back()
            self.back = None


def load(folder: Path, name: str, verify: str, step: Callable[[str], None]) -> bytes:
    """What a runtime does: open, load by path, confirm."""
    step("before")
    real, seen = os.pread, []

    def reading(descriptor: int, size: int, offset: int) -> bytes:
        seen.append(descriptor)
        if len(seen) == 4:  # the manifest is the first; some files are hashed, some not yet
            step("hashing")
        return real(descriptor, size, offset)

    os.pread = reading
    try:
        opened = open_bundle(folder, verify=verify)  # type: ignore[arg-type]
    finally:
        os.pread = real
    with opened:
        step("hashed")
        with open(opened.path_for_loading(name), "rb", buffering=0) as stream:
            step("opened")
            data = stream.read(len(FILES[name]) // 2)
            step("half read")
            while more := stream.read(1 << 16):
                data += more
        step("read")
        opened.confirm(name)
    return data


@pytest.mark.parametrize("verify", ["stamp", "full"])
def test_r2_no_altered_file_is_loaded(tmp_path: Path, verify: str) -> None:
    """Every attack at every step on every kind of file, three times over, for both ways to verify: 0 accepted."""
    trials = [(a, s, n, i) for a in ATTACKS for s in STEPS for n in TARGETS for i in range(3)]
    Random(7).shuffle(trials)
    folders = [make_folder(tmp_path / f"f{index}") for index in range(len(trials))]
    time.sleep(0.03)
    for folder in folders[::2]:  # half of them have a stamp
        open_bundle(folder).close()
    altered, noticed, unharmed = [], 0, 0
    for (attack, at, name, _), folder in zip(trials, folders):
        attacker = Attacker(attack, folder, name, at)  # type: ignore[arg-type]
        try:
            data = load(folder, name, verify, attacker.step)
        except (BundleError, FileNotFoundError):  # the runtime finds no file when it was deleted
            noticed += 1
            continue
        unharmed += 1
        if data != FILES[name]:
            altered.append((attack.__name__, at, name))
    assert altered == []
    assert noticed + unharmed == len(trials) >= 500
    assert noticed > 400


def test_a_swap_between_loading_and_confirming_is_an_integrity_error(tmp_path: Path) -> None:
    for index, attack in enumerate(ATTACKS):
        folder = make_folder(tmp_path / f"f{index}")
        with open_bundle(folder) as opened:
            for name in TARGETS:
                opened.confirm(name)
            back = attack(folder, TARGETS[-1])  # type: ignore[operator]
            if back:
                back()
            with pytest.raises(IntegrityError, match="replaced or written to"):
                opened.confirm(TARGETS[-1])
            for name in TARGETS[:-1]:
                opened.confirm(name)


def test_a_file_that_changes_while_it_is_read_gives_no_wrong_bytes(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "f")
    with open_bundle(folder) as opened:
        overwrite_and_hide(folder, "labels.txt")
        with pytest.raises(IntegrityError, match=r"labels\.txt was changed"):
            opened.read("labels.txt", 100)


def test_r2_1000_loads_under_fire(tmp_path: Path) -> None:
    """A thread swaps the file by rename as fast as it can, between good and altered: 0 altered loads of 1,000."""
    folder, name, stop = make_folder(tmp_path / "f"), TARGETS[0], threading.Event()
    good, bad = FILES[name], EVIL * len(FILES[name])

    def fire() -> None:
        random, spare = Random(3), tmp_path / "spare"
        while not stop.is_set():
            spare.write_bytes(random.choice((good, good, bad)))
            os.replace(spare, folder / name)
            time.sleep(random.choice((0.0, 0.001, 0.004, 0.03)))

    thread = threading.Thread(target=fire)
    thread.start()
    altered, loaded, noticed = 0, 0, 0
    try:
        for turn in range(1000):
            try:
                data = load(folder, name, "full" if turn % 2 else "stamp", lambda now: None)
            except BundleError:
                noticed += 1
                continue
            loaded += 1
            altered += data != good
    finally:
        stop.set()
        thread.join()
    assert altered == 0
    assert loaded + noticed == 1000
    assert noticed > 0


def test_a_cache_entry_is_read_only(tmp_path: Path) -> None:
    build_bundle(tmp_path / "b")
    with open_bundle(tmp_path / "b") as opened:
        for name in opened.manifest.files:
            assert (opened.path / name).stat().st_mode & 0o222 == 0


def test_external_weights_load_through_the_path(tmp_path: Path) -> None:
    """ONNX Runtime resolves `<graph>.data` beside a graph that it is given below /proc/self/fd/N."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    np = pytest.importorskip("numpy")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    weights = np.arange(1024, dtype=np.float32).reshape(32, 32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 32])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 32])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    onnx.save(model, scratch / "image.onnx", save_as_external_data=True, location="image.onnx.data", size_threshold=0)
    files = {**FILES, **{n: (scratch / n).read_bytes() for n in ("image.onnx", "image.onnx.data")}}
    assert len(files["image.onnx.data"]) == 4096
    build_bundle(tmp_path / "b", files)
    x = np.ones((1, 32), np.float32)
    with open_bundle(tmp_path / "b") as opened:
        session = onnxruntime.InferenceSession(
            opened.path_for_loading("image.onnx"), providers=["CPUExecutionProvider"]
        )
        opened.confirm("image.onnx")
        opened.confirm("image.onnx.data")
        assert np.array_equal(session.run(None, {"x": x})[0], x @ weights)
