"""Issue 7, item 4: `export android` writes a module whose library needs the JDK alone and reproduces the goldens."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jvm_bridge import BRIDGE, ROOT, SOURCES, Java, compile_java, require_jdk, start_java
from packing import TRIDIGIT, quiet

from edgekit.cli import main
from edgekit.errors import InputError, TargetError
from edgekit.operations.export import export_android
from edgekit.packaging.build import build
from edgekit.packaging.recipe import read_recipe
from edgekit.predictor import load
from edgekit.targets import find_target

STUBS = ROOT / "tests" / "jvm_stubs"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tridigit for Android, int8."""
    target = find_target("android-arm64")
    output = tmp_path_factory.mktemp("bundle") / "tridigit.edgekit"
    build(read_recipe(TRIDIGIT / "recipe.toml", None, target, [], quiet), target, output)
    return output


@pytest.fixture(scope="module")
def module(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("module") / "tridigit"
    export_android(str(packed), folder)
    return folder


@pytest.fixture(scope="module")
def java() -> Iterator[Java]:
    with start_java() as bridge:
        yield bridge


def test_the_command_says_what_it_wrote(packed: Path, tmp_path: Path) -> None:
    """`--json` names the module, the bundle and what came along; a second time the folder is not empty."""
    done = CliRunner().invoke(main, ["export", "android", str(packed), str(tmp_path / "m"), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["name"], said["decoded"]) == ("tridigit", 2)
    again = CliRunner().invoke(main, ["export", "android", str(packed), str(tmp_path / "m")])
    assert again.exit_code == 4
    assert "expected an empty folder" in again.output


def test_assets_are_the_bundles_files(packed: Path, module: Path) -> None:
    """Byte for byte: manifest, graphs and the rest in the app, golden samples in its test, nothing left out."""
    with zipfile.ZipFile(packed) as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    app = module / "src/main/assets/edgekit/tridigit"
    test = module / "src/androidTest/assets/edgekit-golden/tridigit"
    copied = {p.relative_to(f).as_posix(): p.read_bytes() for f in (test, app) for p in f.rglob("*") if p.is_file()}
    decoded = json.loads(copied.pop("decoded.json"))
    for name, data in inside.items():
        if name in decoded:
            assert decoded[name]["file"] in copied
        else:
            assert hashlib.sha256(copied[name]).digest() == hashlib.sha256(data).digest(), name
    assert not any(p.name.endswith(".bin") for p in app.rglob("*"))


def test_golden_samples_on_the_jvm(packed: Path, module: Path, java: Java, tmp_path: Path) -> None:
    """The check that the instrumented test runs, on what was exported: every tensor and result within its tolerance."""
    assets = module / "src/main/assets/edgekit/tridigit"
    with load(packed) as predictor:
        java.graphs = {spec.file: predictor._engine._graphs[spec.name] for spec in predictor.manifest.graphs}
        java.ask("load", folder=str(assets))
        answer, _ = java.ask("golden", decoded=str(module / "src/androidTest/assets/edgekit-golden/tridigit"))
    assert answer["passed"], answer["report"]
    assert answer["report"].count("ok ") == 13  # ten tensors and three results


def test_the_library_compiles_against_the_jdk_alone(module: Path, tmp_path: Path) -> None:
    """Java 11, warnings are errors; what touches LiteRT and Android is apart, and fits their documented signatures."""
    require_jdk()
    compile_java([module / "src/main/java"], tmp_path / "core")
    for path in (module / "src/main/java").rglob("*.java"):
        foreign = re.findall(r"^import (?:static )?(?!java\.|dev\.edgekit\.)(\S+);", path.read_text("utf-8"), re.M)
        assert foreign == [], path
    touching = [p for p in module.rglob("*.java") if "org.tensorflow" in p.read_text("utf-8")]
    assert [p.name for p in touching] == ["LiteRtLoader.java"]
    compile_java([STUBS], tmp_path / "stubs")
    both = Path(f"{tmp_path / 'core'}:{tmp_path / 'stubs'}")
    compile_java([module / "src/litert/java", module / "src/android/java"], tmp_path / "rest", classpath=both)


def test_the_module_names_its_runtime_and_what_was_not_compiled(module: Path) -> None:
    """LiteRT by version, no word left to fill in, and the sample says that nobody compiled it."""
    gradle = (module / "build.gradle.kts").read_text("utf-8")
    assert re.search(r'implementation\("com\.google\.ai\.edge\.litert:litert:\d+\.\d+\.\d+"\)', gradle)
    assert 'namespace = "dev.edgekit.bundle.tridigit"' in gradle
    readme = (module / "README.md").read_text("utf-8")
    for word in ("tridigit", "not compiled", "connectedAndroidTest", "Similarity"):
        assert word in readme
    assert "NOT compiled" in (module / "sample/SampleActivity.java").read_text("utf-8")
    for path in [*module.rglob("*.java"), *module.rglob("*.kts"), *module.rglob("*.md"), *module.rglob("*.xml")]:
        assert not re.search(r"@[A-Z]+@", path.read_text("utf-8")), path


def test_other_bundles_are_refused(tridigit_tflite: Path, tmp_path: Path) -> None:
    """A bundle packaged for something else is refused with the way out, and nothing is written."""
    with pytest.raises(TargetError, match=r"packaged for linux-x86_64.*\n.*--target android-arm64"):
        export_android(str(tridigit_tflite), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_folder_with_something_in_it_is_refused(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="expected an empty folder"):
        export_android(str(packed), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_java_sources_are_data_of_the_wheel() -> None:
    """Every file below export/java is matched by the package's data patterns."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    patterns: Any = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    folder = SOURCES.parent
    matched = {p for pattern in patterns["edgekit.export"] for p in folder.glob(pattern) if p.is_file()}
    assert matched == {p for p in SOURCES.rglob("*") if p.is_file()}
    assert BRIDGE.is_dir()
