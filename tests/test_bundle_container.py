"""R1, R3, R4, P1: a bundle file is one byte string for its content, written the same everywhere, read whole or not."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from random import Random

import pytest
from build_manifest import build_bundle, build_files, build_manifest

from edgekit.bundle import open_bundle, read_manifest, verify, write_bundle
from edgekit.container import directory, local_header, plan_entries
from edgekit.errors import BundleError, IntegrityError, ManifestError
from edgekit.manifest import GraphSpec, Manifest, dump_manifest
from edgekit.specs.post import Raw
from edgekit.specs.tensor import TensorInput

SEED = 20240607


def small_manifest(files: Mapping[str, bytes]) -> Manifest:
    graph = GraphSpec(
        name="g",
        file="g.onnx",
        data=None,
        runtime="onnxruntime",
        role="model",
        precision="float32",
        inputs=(),
        outputs=(),
        state=(),
        constants=(),
    )
    return build_manifest(
        files,
        inputs={"x": TensorInput(kind="tensor", value="x", datatype="FP32", shape=(1,))},
        graphs=(graph,),
        postprocess=Raw(task="raw", values=("y",)),
        golden=(),
    )


def write(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> bytes:
    write_bundle(path, manifest, lambda name: io.BytesIO(files[name]))
    return path.read_bytes()


def small_bundle(path: Path, seed: int = 0) -> bytes:
    """A bundle of about 4 KB."""
    random = Random(seed)
    files = {"g.onnx": random.randbytes(1600), "labels.txt": b"cat\ndog\n", "tok/vocab.json": random.randbytes(900)}
    files["empty"] = b""
    return write(path, small_manifest(files), files)


def tree(folder: Path, but: Path) -> dict[str, bytes]:
    """Every file below `folder` except what is below `but`."""
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file() and but not in p.parents}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def test_what_is_written_is_read_and_other_tools_list_it(tmp_path: Path) -> None:
    path = tmp_path / "b.edgekit"
    files = build_files()
    manifest = build_bundle(path)
    assert verify(path) == read_manifest(path) == manifest
    assert os.stat(path).st_mode & 0o7777 == 0o644
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["manifest.json", *sorted(files)]
        assert {n: archive.read(n) for n in files} == files
        assert archive.comment == b""
        for info in archive.infolist():
            assert (info.compress_type, info.extra, info.comment) == (zipfile.ZIP_STORED, b"", b"")
            assert (info.date_time, info.external_attr >> 16) == ((1980, 1, 1, 0, 0, 0), 0o100644)


def test_the_digest_is_the_sha256_of_the_manifest(tmp_path: Path) -> None:
    files = build_files()
    manifest = build_manifest(files)
    digest = write_bundle(tmp_path / "b", manifest, lambda name: io.BytesIO(files[name]))
    assert digest == hashlib.sha256(dump_manifest(manifest)).hexdigest()


def test_the_bytes_of_format_1_never_change(tmp_path: Path) -> None:
    """Framing of a bundle by literal bytes: local header, payload, central directory, end record."""
    files = {"g.onnx": b"xyz"}
    data = write(tmp_path / "b", small_manifest(files), files)
    manifest = dump_manifest(small_manifest(files))
    crc, size = zlib.crc32(manifest).to_bytes(4, "little"), len(manifest).to_bytes(4, "little")
    first = b"PK\3\4\x14\0\0\0\0\0\0\0\x21\0" + crc + size + size + b"\x0d\0\0\0manifest.json" + manifest
    facts = bytes.fromhex("6788ecc4 03000000 03000000".replace(" ", ""))
    facts = zlib.crc32(b"xyz").to_bytes(4, "little") + facts[4:]
    second = b"PK\3\4\x14\0\0\0\0\0\0\0\x21\0" + facts + b"\x06\0\0\0g.onnxxyz"
    head = b"PK\1\2\x14\x03\x14\0\0\0\0\0\0\0\x21\0"
    mode = b"\0\0\0\0\0\0\0\0\0\0\xa4\x81"
    listing = head + crc + size + size + b"\x0d\0" + mode + b"\0\0\0\0manifest.json"
    listing += head + facts + b"\x06\0" + mode + len(first).to_bytes(4, "little") + b"g.onnx"
    start = len(first + second).to_bytes(4, "little")
    end = b"PK\5\6\0\0\0\0\2\0\2\0" + len(listing).to_bytes(4, "little") + start + b"\0\0"
    assert data == first + second + listing + end


P1_CHILD = """
import os, pathlib, random, sys, time
from build_manifest import build_files, build_manifest
from edgekit.bundle import write_bundle
seed, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
os.umask([0, 0o022, 0o077, 0o777][seed % 4])
files = list(build_files().items())
random.Random(seed).shuffle(files)
for name, data in files:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o755)
    path.write_bytes(data)
    path.chmod(0o600 if seed % 2 else 0o777)
    os.utime(path, (seed * 1e8, seed * 1e7))
manifest = build_manifest(dict(files))
os.chdir(folder)
write_bundle("../out.edgekit" if seed % 3 else folder.parent / "out.edgekit", manifest, lambda name: folder / name)
"""


def test_p1_the_same_content_gives_the_same_bytes_50_of_50(tmp_path: Path) -> None:
    """50 processes: other time zone, folder, umask, locale, hash seed, order and times of the inputs."""
    digests = set()
    for seed in range(50):
        folder = tmp_path / f"{'deep/' * (seed % 3)}place-{seed}" / "in"
        folder.mkdir(parents=True)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TZ": ["UTC", "Asia/Kathmandu", "America/St_Johns", "XXX-14"][seed % 4],
            "PYTHONHASHSEED": str(seed),
            "LC_ALL": ["C", "C.UTF-8", "tr_TR.UTF-8", "POSIX"][seed % 4],
            "PYTHONUTF8": str(seed % 2),
        }
        command = [sys.executable, "-c", P1_CHILD, str(seed), str(folder)]
        subprocess.run(command, env=environment, check=True)
        out = folder.parent / "out.edgekit"
        assert out.stat().st_mode & 0o7777 == 0o644
        digests.add(hashlib.sha256(out.read_bytes()).hexdigest())
    assert len(digests) == 1


def refuse(path: Path, *words: str) -> BundleError:
    """Every reader refuses the file, naming it."""
    found: list[BundleError] = []
    for read in (verify, open_bundle):
        with pytest.raises(BundleError) as caught:
            read(path)
        found.append(caught.value)
        assert str(path) in str(caught.value)
        for word in words:
            assert word in str(caught.value)
    return found[0]


def test_a_file_that_is_no_bundle_is_refused_by_name(tmp_path: Path, cache: Path) -> None:
    path, good = tmp_path / "b.edgekit", small_bundle(tmp_path / "good.edgekit")
    refuse(path)
    path.write_bytes(b"")
    refuse(path, "empty", "copy")
    for junk in (b"P", b"PK\3\4", b"\x7fELF" + bytes(100), b"x" * 10_000, bytes(43), bytes(5000)):
        path.write_bytes(junk)
        refuse(path, "not a bundle")
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("readme.txt", b"hello" * 100)
        refuse(path, "a zip whose first member is not manifest.json", "edgekit package")
    with zipfile.ZipFile(path, "w") as archive, zipfile.ZipFile(tmp_path / "good.edgekit") as source:
        for name in source.namelist():
            archive.writestr(name, source.read(name))
    refuse(path, "altered")
    path.write_bytes(good[:-1])
    assert "cut off" in refuse(path, f"expected {len(good):,} bytes, got {len(good) - 1:,}", "copy").message
    path.write_bytes(good[:700])
    refuse(path, "cut off", "copy")
    path.write_bytes(good + b"\0")
    refuse(path, "something was added")
    path.write_bytes(b"#!/bin/sh\n" + good)
    refuse(path, "not a bundle")
    path.write_bytes(good + good)
    refuse(path, "something was added")
    path.write_bytes(good.replace(b"dog", b"fog"))
    error = refuse(path, "labels.txt is altered", hashlib.sha256(b"cat\nfog\n").hexdigest(), "copy")
    assert isinstance(error, IntegrityError)
    assert error.exit_code == 3


def test_a_name_that_leads_to_no_file_is_refused(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(BundleError, match="a folder"):
        verify(tmp_path)
    for path in (tmp_path / "absent", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        for read in (verify, read_manifest, open_bundle):
            with pytest.raises(BundleError):
                read(path)
    os.mkfifo(tmp_path / "pipe")
    refuse(tmp_path / "pipe", "not a plain file")
    refuse(Path("/dev/zero"), "not a plain file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(tmp_path: Path, cache: Path) -> None:
    small_bundle(tmp_path / "b")
    (tmp_path / "b").chmod(0)
    refuse(tmp_path / "b", "Permission denied")


def test_a_manifest_error_names_the_bundle_and_the_key(tmp_path: Path, cache: Path) -> None:
    good = small_bundle(tmp_path / "good")
    data = dump_manifest(read_manifest(tmp_path / "good"))
    for old, new, key in ((b'"target":', b'"turget":', "turget"), (b'{"format":1', b'{"format":9', "format")):
        altered = data.replace(old, new, 1) if old in data else data.replace(old[1:], new[1:], 1)
        assert len(altered) == len(data) != 0
        assert altered != data
        old_crc, new_crc = (zlib.crc32(d).to_bytes(4, "little") for d in (data, altered))
        (tmp_path / "b").write_bytes(good.replace(data, altered).replace(old_crc, new_crc))
        error = refuse(tmp_path / "b", key)
        assert isinstance(error, ManifestError)
        assert error.key == key


def test_a_name_cannot_be_a_file_and_a_folder(tmp_path: Path) -> None:
    files = {"g.onnx": b"1", "g.onnx/b": b"2"}
    with pytest.raises(ManifestError, match="is a file and the folder of"):
        write(tmp_path / "b", small_manifest(files), files)


def test_r1_every_single_byte_counts(tmp_path: Path, cache: Path) -> None:
    """Each byte of a 4 KB bundle changed in three ways: 0 accepted, 0 other errors, 0 bytes outside the cache.

    `open_bundle` is shown one of the three, since it unpacks while it verifies and takes its time.
    """
    good = small_bundle(tmp_path / "good")
    assert 3500 < len(good) < 5000
    for read, flips in ((check, (1, 0x80, 0xFF)), (open_and_close, (0x20,))):
        mutants = (good[:i] + bytes([good[i] ^ flip]) + good[i + 1 :] for i in range(len(good)) for flip in flips)
        assert try_all(tmp_path, cache, mutants, read) == (len(flips) * len(good), 0)


def test_r1_20000_random_mutations(tmp_path: Path, cache: Path) -> None:
    """Flips, cuts, inserts, deletions and splices over 5 bundles: 0 accepted, 0 other errors, 0 bytes outside."""
    random = Random(SEED)
    seeds = [small_bundle(tmp_path / f"seed-{i}", seed=i) for i in range(5)]
    seeds[4] = build_bundle(tmp_path / "seed-4") and (tmp_path / "seed-4").read_bytes()

    def mutants() -> list[bytes]:
        found: list[bytes] = []
        while len(found) < 20_000:
            good = random.choice(seeds)
            mutant = mutate(random, good, random.choice(seeds))
            if mutant not in seeds:
                found.append(mutant)
        return found

    assert try_all(tmp_path, cache, mutants(), open_and_close) == (20_000, 0)


def check(path: Path) -> None:
    verify(path)


def open_and_close(path: Path) -> None:
    open_bundle(path).close()


def try_all(folder: Path, cache: Path, mutants: Iterable[bytes], read: Callable[[Path], None]) -> tuple[int, int]:
    """(tried, accepted); any error but BundleError, and any file outside the cache, fails the test."""
    path, tried, accepted = folder / "mutant", 0, 0
    path.write_bytes(b"")
    before = tree(folder, cache)
    with path.open("r+b", buffering=0) as stream:  # truncating to nothing each time costs 2 ms on ext4
        for mutant in mutants:
            os.pwrite(stream.fileno(), mutant, 0)
            os.ftruncate(stream.fileno(), len(mutant))
            tried += 1
            try:
                read(path)
                accepted += 1
            except BundleError:
                continue
        stream.truncate(0)
    assert tree(folder, cache) == before
    assert not [p for p in cache.rglob("*") if p.is_file()]  # nothing of a refused bundle stays, not even there
    return tried, accepted


def mutate(random: Random, data: bytes, other: bytes) -> bytes:
    result, i, j = bytearray(data), random.randrange(len(data)), random.randrange(len(data))
    low, high = min(i, j), max(i, j)
    kind = random.randrange(6)
    if kind == 0:
        for _ in range(random.randrange(1, 9)):
            result[random.randrange(len(result))] = random.randrange(256)
    elif kind == 1:
        del result[i:]
    elif kind == 2:
        result[i:i] = random.randbytes(random.randrange(1, 40))
    elif kind == 3:
        del result[low : high + 1]
    elif kind == 4:
        result[i:i] = result[low:high]
    else:
        result[low:high] = other[low:high]
    return bytes(result)


def test_zip64_fields_stand_where_sizes_demand_them_and_nowhere_else(tmp_path: Path) -> None:
    """A sparse file of 13 GiB: a foreign reader finds each member where the plan says."""
    sizes = {"a": 5 << 30, "b": 3, "c": (1 << 32) - 2, "d": (1 << 32) - 1, "e": 4}
    entries = plan_entries(100, sizes)
    crcs = tuple(range(len(entries)))
    path = tmp_path / "big"
    with path.open("wb") as stream:
        for entry, crc in zip(entries, crcs):
            stream.seek(entry.offset)
            stream.write(local_header(entry, crc))
        stream.seek(entry.size, os.SEEK_CUR)
        stream.write(directory(entries, crcs))
    assert [len(local_header(e, 0)) - 30 - len(e.name) for e in entries] == [0, 20, 0, 0, 20, 0]
    with zipfile.ZipFile(path) as archive:
        found = [(i.filename, i.file_size, i.compress_size, i.header_offset, i.CRC) for i in archive.infolist()]
        assert found == [(e.name, e.size, e.size, e.offset, c) for e, c in zip(entries, crcs)]
        for entry in entries:
            with archive.open(entry.name) as member:
                assert member.seekable()
    edge = plan_entries(100, {"a": (1 << 32) - 2})
    assert len(local_header(edge[1], 0)) == 31  # 0xFFFFFFFE still fits


R4_CHILD = """
import resource, sys
from edgekit.bundle import open_bundle, read_manifest, verify
from edgekit.errors import BundleError
import edgekit.container
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (32 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[1:]:
    for read in (verify, lambda p: open_bundle(p).close()):
        try:
            read(path)
            print("ok")
        except BundleError as error:
            print(type(error).__name__)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_r4_no_input_takes_more_than_32_mib(tmp_path: Path, cache: Path) -> None:
    """A child that may have 32 MiB above its start opens every hostile file, and a good bundle of 100 MB."""
    big = tmp_path / "big"
    with (tmp_path / "zeros").open("wb") as stream:
        stream.truncate(100_000_000)
    digest = hashlib.sha256()
    for _ in range(100):
        digest.update(bytes(1_000_000))
    manifest = small_manifest({"g.onnx": b""})
    fact = manifest.files["g.onnx"].replace(size=100_000_000, sha256=digest.hexdigest())
    write_bundle(big, manifest.replace(files={"g.onnx": fact}), lambda name: tmp_path / "zeros")
    hostile = list(hostile_files(tmp_path))
    child = [sys.executable, "-c", R4_CHILD, str(big), *map(str, hostile)]
    done = subprocess.run(child, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = done.stdout.split()
    assert answers[:2] == ["ok", "ok"]
    assert len(answers) == 2 + 2 * len(hostile)
    assert "ok" not in answers[2:]


def hostile_files(folder: Path) -> list[Path]:
    """Files that claim much, and manifests whose objects weigh many times their text."""
    mib = 1 << 20
    pairs = ",".join(f'"{i:x}":{i}' for i in range(90_000))
    manifests = [
        b"[" * mib,
        b"[" + b"[]," * (mib // 3 - 1) + b"[]]",
        b"[" + b"{}," * (mib // 3 - 1) + b"{}]",
        b"[" + b'{"":[]},' * (mib // 8 - 1) + b"{}]",
        b"[" + b'{"":[]},' * 16_000 + b"{}]",
        b"[" + b"1e9," * (mib // 4 - 1) + b"0]",
        b"[" + b"0," * (mib // 2 - 2) + b"0]",
        b"[" + b'"ab",' * (mib // 5 - 1) + b"0]",
        b'["' + "\U0001f600".encode() * (mib // 4 - 2) + b'"]',
        b'["' + b"x" * (mib - 2 - 17) + "\U0001f600".encode() + b'"]',
        b'["' + b"\\ud83d\\ude00" * (mib // 12 - 2) + b'"]',
        f"{{{pairs}}}".encode()[:mib],
        b"9" * mib,
        b'{"format":' + b"9" * 4000 + b"}",
        b'{"format":1,"golden":[' + b"0," * (mib // 2 - 40) + b"0]}",
    ]
    paths = []
    for index, data in enumerate(manifests):
        assert len(data) <= mib
        path = folder / f"manifest-{index}"
        entries = plan_entries(len(data), {})
        header = local_header(entries[0], zlib.crc32(data))
        path.write_bytes(header + data)
        paths.append(path)
    for index, size in enumerate((mib + 1, 1 << 31, (1 << 32) - 2)):
        path = folder / f"claim-{index}"
        with path.open("wb") as stream:
            stream.write(local_header(plan_entries(size, {})[0], 0))
            stream.truncate(6 << 30)
        paths.append(path)
    full = dump_manifest(build_manifest())
    facts = b'"files":{' + b",".join(
        b'"f%d":{"sha256":"%s","size":9223372036854775807}' % (i, b"0" * 64) for i in range(9)
    )
    huge = full[: full.index(b'"files":{')] + facts + b"}" + full[full.index(b',"format":') :]
    path = folder / "sizes"
    path.write_bytes(local_header(plan_entries(len(huge), {})[0], zlib.crc32(huge)) + huge)
    return [*paths, path]
