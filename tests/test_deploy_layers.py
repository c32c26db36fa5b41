"""Layers: wheels are unpacked strictly, tags follow the device, the digest follows the files, the launcher finds it."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploying import APP, checks, local_device, make_bundle, make_request, memory_folder, what_runs

from edgekit.devices import Checks, Facts, Layer, build_layer, deploy, find_needs, read_facts, remove
from edgekit.devices.layers import layer_of, own_files, platform_tags
from edgekit.devices.release import inline
from edgekit.devices.wheels import unpack_wheel, wheel_name
from edgekit.errors import EdgekitError, InputError, IntegrityError, TargetError

MUTATIONS = 2_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = memory_folder(tmp_path)
    monkeypatch.setenv("EDGEKIT_CACHE", str(folder / "cache"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def facts(folder: Path) -> Facts:
    return read_facts(local_device(folder / "device")).replace(
        machine="aarch64", bits=64, libc="glibc 2.36", python="3.11.2"
    )


def make_wheel(
    folder: Path, name: str, files: dict[str, bytes], *, tag: str = "py3-none-any", version: str = "1.0"
) -> Path:
    """A wheel as `pip wheel` would make it, with a right RECORD."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    meta = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    tags = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    whole = {**files, f"{info}/METADATA": meta, f"{info}/WHEEL": tags}
    rows = [f"{n},sha256={_digest(d)},{len(d)}" for n, d in whole.items()]
    whole[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in whole.items():
            archive.writestr(member, data)
    return path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def test_a_wheel_becomes_plain_files(folder: Path) -> None:
    files = {
        "pack/__init__.py": b"x = 1\n",
        "pack/data.bin": bytes(range(256)),
        "pack-1.0.data/purelib/more.py": b"y = 2\n",
        "pack-1.0.data/scripts/run": b"#!python\n",
        "pack/stub.pyi": b"x: int\n",
    }
    found = unpack_wheel(make_wheel(folder, "pack", files), folder / "out")
    assert {f.path for f in found} == {
        *("pack/__init__.py", "pack/data.bin", "more.py"),
        *(f"pack-1.0.dist-info/{n}" for n in ("METADATA", "WHEEL", "RECORD")),
    }
    for file in found:
        data = (folder / "out" / file.path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, file.sha256)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\b", "a\x01b", "a//b", "./a"])
def test_a_wheel_with_a_name_that_leads_elsewhere_is_refused(folder: Path, name: str) -> None:
    wheel = make_wheel(folder / "wheels", "pack", {"pack.py": b"", name: b"evil"})
    before = sorted(folder.rglob("*"))
    with pytest.raises(IntegrityError):
        unpack_wheel(wheel, folder / "out")
    assert sorted(folder.rglob("*")) == before


def test_a_wheel_with_a_file_outside_its_record_a_twin_or_a_link_is_refused(folder: Path) -> None:
    wheel = make_wheel(folder, "pack", {"pack.py": b"x"})
    for number, extra in enumerate(("other.py", "pack.py", "link")):
        bad = folder / f"bad{number}-1.0-py3-none-any.whl"
        shutil.copy(wheel, bad)
        entry = zipfile.ZipInfo(extra)
        if extra == "link":
            entry.external_attr = 0o120777 << 16
        with zipfile.ZipFile(bad, "a") as archive:
            if extra == "pack.py":
                with pytest.warns(UserWarning, match="Duplicate"):
                    archive.writestr(entry, b"/etc/passwd")
            else:
                archive.writestr(entry, b"/etc/passwd")
        with pytest.raises(IntegrityError):
            unpack_wheel(bad, folder / f"out{number}")


def test_mutated_wheels_are_refused_or_say_the_same(folder: Path) -> None:
    """2,000 changes of single bytes: an error of ours, or exactly the same files."""
    wheel = make_wheel(folder, "pack", {"pack/a.py": b"x = 1\n" * 50, "pack/b.bin": random.Random(1).randbytes(900)})
    good, pick, accepted = wheel.read_bytes(), random.Random(2), 0
    truth = {f.path: f.sha256 for f in unpack_wheel(wheel, folder / "out")}
    bad = folder / "bad-1.0-py3-none-any.whl"
    for _ in range(MUTATIONS):
        data = bytearray(good)
        data[pick.randrange(len(data))] ^= 1 << pick.randrange(8)
        bad.write_bytes(data)
        out = folder / "mutated"
        try:
            found = unpack_wheel(bad, out)
        except EdgekitError:
            continue
        finally:
            shutil.rmtree(out, ignore_errors=True)
        accepted += 1
        changed = {f.path for f in found if truth.get(f.path) != f.sha256}
        assert changed <= {"pack-1.0.dist-info/RECORD"}  # which nobody loads
    print(f"\n{accepted} of {MUTATIONS} mutated wheels accepted, none with an altered file")


@pytest.mark.parametrize("name", ["pack.zip", "pack-1.0.whl", "pack.whl"])
def test_what_is_not_named_like_a_wheel_is_refused(name: str) -> None:
    with pytest.raises(IntegrityError):
        wheel_name(Path(name))


def test_platform_tags_follow_pep_600() -> None:
    assert platform_tags("aarch64", 19) == (
        *("manylinux_2_19_aarch64", "manylinux_2_18_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
    )
    assert platform_tags("x86_64", 36)[0] == "manylinux_2_36_x86_64"
    assert platform_tags("x86_64", 36)[-2:] == ("manylinux_2_5_x86_64", "manylinux1_x86_64")


def test_only_what_the_bundle_needs_is_taken(facts: Facts) -> None:
    needs = find_needs(facts, {"numpy": ">=1.23", "onnxruntime": ">=1.18", "tokenizers": ">=0.15"})
    assert needs.requirements == ("click>=8.1", "numpy>=1.23", "onnxruntime>=1.18,!=1.24.*,!=1.25.*,!=1.26.*")
    assert needs.alone == ("tokenizers>=0.15",)
    assert (needs.python, needs.machine, needs.glibc, needs.system) == ("3.11", "aarch64", 36, ())
    assert "tomli>=2.0" in find_needs(facts.replace(python="3.10.12"), {}).requirements


def test_32_bit_pi_os_takes_numpy_and_pillow_from_the_system(facts: Facts) -> None:
    pi = facts.replace(machine="armv7l", bits=32)
    needs = find_needs(pi, {"numpy": ">=1.23", "pillow": ">=9.4", "ai-edge-litert": ">=2.1", "tokenizers": ">=0.15"})
    assert needs.requirements == ("click>=8.1",)
    assert needs.alone == ("tflite-runtime==2.14.0", "tokenizers>=0.15")
    assert needs.system == ("numpy", "pillow")
    assert find_needs(pi.replace(machine="aarch64"), {}).machine == "armv7l"
    with pytest.raises(TargetError, match="onnxruntime, which exists for no 32-bit ARM"):
        find_needs(pi, {"onnxruntime": ">=1.18"})
    with pytest.raises(TargetError, match=r"up to Python 3\.11, the device has 3\.13"):
        find_needs(pi.replace(python="3.13.5"), {"ai-edge-litert": ">=2.1"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"python": ""}, r"needs Python 3\.10 or later, the device has none"),
        ({"python": "3.9.2"}, r"the device has 3\.9\.2"),
        ({"libc": "unknown"}, "needs glibc, the device has unknown"),
        ({"libc": "bionic"}, "needs glibc, the device has bionic"),
    ],
)
def test_a_device_that_can_have_no_layer_is_told_why(facts: Facts, change: dict[str, str], words: str) -> None:
    with pytest.raises(TargetError, match=words):
        find_needs(facts.replace(**change), {"numpy": ">=1.23"})


def wheelhouse(folder: Path) -> Path:
    house = folder / "house"
    make_wheel(house, "click", {"click/__init__.py": b"", "click/core.py": b"core = 1\n"}, version="8.1")
    make_wheel(house, "thing", {"thing.py": b"thing = 1\n"}, tag="cp311-cp311-manylinux_2_28_aarch64")
    return house


def test_a_layer_is_built_offline_once_and_named_by_its_files(
    folder: Path, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--offline: from a folder of wheels; the second time without pip, the same digest."""
    needs = find_needs(facts, {"thing": ">=1.0"}, wheelhouse=wheelhouse(folder))
    first = build_layer(needs)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    again = build_layer(needs)
    assert first == again
    paths = {c.path for c in first.contents}
    assert {
        "thing.py",
        "click/core.py",
        "edgekit/cli/commands.py",
        "edgekit/devices/launcher.py",
        "layer.json",
    } <= paths
    listed = [[c.path, c.size, c.sha256] for c in sorted(first.contents, key=lambda c: c.path)]
    canonical = json.dumps(listed, separators=(",", ":")).encode()
    assert first.digest == hashlib.sha256(canonical).hexdigest()
    described = json.loads(next(c.data for c in first.contents if c.path == "layer.json") or b"")
    assert described["packages"] == {"click": "8.1", "thing": "1.0"}
    assert all(len(h) == 64 for h in described["wheels"].values())


def test_a_damaged_cache_is_built_anew(folder: Path, facts: Facts) -> None:
    needs = find_needs(facts, {"thing": ">=1.0"}, wheelhouse=wheelhouse(folder))
    first = build_layer(needs)
    (victim,) = (folder / "cache").rglob("thing.py")
    victim.unlink()
    assert build_layer(needs) == first
    assert victim.read_bytes() == b"thing = 1\n"


def test_no_wheel_for_the_device_names_it(folder: Path, facts: Facts) -> None:
    house = wheelhouse(folder)
    with pytest.raises(TargetError, match=r"no wheel of absent>=1\.0 for Python 3\.11, aarch64, glibc 2\.36 in "):
        build_layer(find_needs(facts, {"absent": ">=1.0"}, wheelhouse=house))
    with pytest.raises(TargetError, match=r"no wheel of thing>=1\.0 for Python 3\.13"):
        build_layer(find_needs(facts.replace(python="3.13.1"), {"thing": ">=1.0"}, wheelhouse=house))


def test_a_vendor_wheel_replaces_the_one_of_the_index(folder: Path, facts: Facts) -> None:
    """--wheel FILE, as for JetPack's GPU build of onnxruntime."""
    house = wheelhouse(folder)
    vendor = make_wheel(
        folder / "vendor", "onnxruntime_gpu", {"onnxruntime/__init__.py": b"gpu = 1\n"}, tag="cp311-cp311-linux_aarch64"
    )
    for required in ("onnxruntime-gpu", "onnxruntime"):  # a bundle requires onnxruntime, whatever its build is called
        needs = find_needs(facts, {required: ">=1.0"}, wheels=(vendor,), wheelhouse=house)
        assert needs.requirements == ("click>=8.1",)
        assert "onnxruntime/__init__.py" in {c.path for c in build_layer(needs).contents}


def test_a_wheel_built_anew_is_another_layer(folder: Path, facts: Facts) -> None:
    """The cache knows wheels and folders of wheels by what they hold, not by their names."""
    house = wheelhouse(folder)
    digests = set()
    for content in (b"a = 1\n", b"a = 2\n"):
        vendor = make_wheel(folder / "vendor", "extra", {"extra.py": content})
        digests.add(build_layer(find_needs(facts, {}, wheels=(vendor,), wheelhouse=house)).digest)
    assert len(digests) == 2
    gone = find_needs(facts, {}, wheels=(folder / "extra-2.0-py3-none-any.whl",), wheelhouse=house)
    with pytest.raises(InputError, match=r"cannot read .*extra-2.0"):
        build_layer(gone)


def test_two_files_of_one_name_are_refused() -> None:
    with pytest.raises(IntegrityError, match="same name"):
        layer_of((inline("a.py", b"1"), inline("a.py", b"2")))


def test_the_layer_holds_the_edgekit_that_is_running() -> None:
    import edgekit

    home = Path(edgekit.__file__).parent
    found = {c.path: c.data for c in own_files()}
    assert found["edgekit/errors.py"] == (home / "errors.py").read_bytes()
    assert any(p.startswith("edgekit/_data/targets/") for p in found)
    assert not any("__pycache__" in p for p in found)


def fake_layer(marker: bytes) -> Layer:
    """A layer whose edgekit prints which one it is."""
    command = b"import sys\nprint(" + repr(marker.decode()).encode() + b", sys.argv[1:])\n"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return layer_of(
        (
            inline("edgekit/__init__.py", b""),
            inline("edgekit/__main__.py", command),
            inline("a folder/with a $(name).py", b"x = 1\n"),
            inline("layer.json", json.dumps({"python": version}).encode()),
        )
    )


def test_a_layer_is_installed_shared_and_collected(folder: Path) -> None:
    """Apps share it; an unused one goes; what both layers have is copied, not sent."""
    root, first, second = folder / "device", fake_layer(b"one"), fake_layer(b"two")
    payload, device = make_bundle(folder, "1.0"), local_device(folder / "device")
    deploy(device, make_request(payload, layer=first), checks())
    shared = deploy(device, make_request(payload, layer=first, app="other"), checks())
    assert shared.sent_bytes < 5000
    for content in first.contents:
        path = root / "layers" / first.digest / content.path
        assert (path.read_bytes(), path.stat().st_mode & 0o777) == (content.data, 0o444)
    update = deploy(device, make_request(make_bundle(folder, "1.1"), layer=second), checks())
    assert update.reused_bytes > sum(c.size for c in second.contents if c.path != "edgekit/__main__.py")
    assert {p.name for p in (root / "layers").iterdir()} == {first.digest, second.digest}
    remove(device, "other")
    deploy(device, make_request(make_bundle(folder, "1.2"), layer=second), checks())
    assert {p.name for p in (root / "layers").iterdir()} == {second.digest}
    assert what_runs(root) is not None


def test_the_launcher_runs_the_layer_of_the_release(folder: Path) -> None:
    root, device = folder / "device", local_device(folder / "device")
    payload = make_bundle(folder, "1.0")
    first = deploy(device, make_request(payload, layer=fake_layer(b"one")), checks())
    deploy(device, make_request(payload, layer=fake_layer(b"two"), app="other"), checks())

    (folder / "bin").mkdir()
    (folder / "bin/python3").symlink_to(sys.executable)

    def run(*words: str) -> str:
        done = subprocess.run(
            [root / "bin/edgekit", *words],
            capture_output=True,
            text=True,
            cwd="/",
            env={"PATH": f"{folder}/bin:{os.environ['PATH']}"},
        )
        return done.stdout.strip() or done.stderr.strip()

    assert run("predict", APP, "--json") == f"one ['predict', '{APP}', '--json']"
    assert run("predict", "other") == "two ['predict', 'other']"
    release = root / "apps" / APP / "releases" / first.release
    assert run("check", f"{release}/bundle") == f"one ['check', '{release}/bundle']"
    assert run("--version").split()[0] in ("one", "two")


def test_torn_byte_code_never_stands_in_the_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut may leave half of a module's byte code, which Python takes for whole: EOFError at every start.

    So only the check writes it, flushed before the switch, and a layer in which nothing runs yet loses what it has.
    """
    root, device, layer = folder / "device", local_device(folder / "device"), fake_layer(b"one")
    (folder / "bin").mkdir()
    (folder / "bin/python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    launcher = Checks(
        golden=lambda release: ["env", "EDGEKIT_KEEP_BYTECODE=1", str(root / "bin/edgekit"), "check", release],
        golden_timeout_s=60,
        warm=None,
        warm_timeout_s=60,
    )
    deploy(device, make_request(make_bundle(folder, "1.0"), layer=layer), launcher)
    written = list((root / "layers").rglob("*.pyc"))
    assert sorted(p.name.partition(".")[0] for p in written) == ["__init__", "__main__"]
    shutil.rmtree(written[0].parent)
    assert subprocess.run([root / "bin/edgekit", "predict", APP], check=True, capture_output=True).stdout
    assert list((root / "layers").rglob("*.pyc")) == []

    shutil.rmtree(root / "apps")
    home = root / "layers" / layer.digest / "edgekit"
    torn = Path(importlib.util.cache_from_source(str(home / "__init__.py")))
    torn.parent.mkdir()
    source = (home / "__init__.py").stat()
    torn.write_bytes(importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, int(source.st_mtime), source.st_size) + b"c")
    broken = subprocess.run([root / "bin/edgekit", "predict", APP], check=False, capture_output=True, text=True)
    assert "EOFError" in broken.stderr
    deploy(device, make_request(make_bundle(folder, "1.0"), layer=layer), launcher)
    assert subprocess.run([root / "bin/edgekit", "predict", APP], check=True, capture_output=True).stdout


def test_no_pip_is_said_with_the_way_out(folder: Path, facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    python = folder / "python"
    python.write_text("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(InputError, match="no pip") as caught:
        build_layer(find_needs(facts, {"thing": ">=1.0"}))
    assert "ensurepip" in str(caught.value)
