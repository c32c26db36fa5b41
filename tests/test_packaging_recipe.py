"""Packaging: what runs here is what ships, wrong preprocessing is refused, the same source gives the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from packing import TRIDIGIT, changed_recipe, host_target, pack, quiet

from edgekit.errors import GateFailed, InputError, IntegrityError, TargetError
from edgekit.manifest import Manifest
from edgekit.packaging.recipe import known_recipes, read_recipe
from edgekit.predictor import load
from edgekit.targets import find_target

VARIANTS = ("fp32", "fp16", "int8", "tflite-fp32", "tflite-fp16", "tflite-int8")

MISTAKES = {
    "mean": ("mean = [0.1307]", "mean = [0.0]"),
    "std": ("std = [0.3081]", "std = [0.5]"),
    "scale": ("scale = 0.00392156862745098", "scale = 1.0"),
    "resize filter and crop": (
        'step = "resize"\nmode = "stretch"\nheight = 28\nwidth = 28',
        'step = "crop"\nheight = 24\nwidth = 24\nfraction = 0.0\nrounding = "floor"\nfill = 0.0\n\n'
        '[[inputs.image.steps]]\nstep = "resize"\nmode = "stretch"\nheight = 28\nwidth = 28',
    ),
    "sample rate": ("rate_hz = 8000", "rate_hz = 16000"),
    "hop": ("hop_length = 128", "hop_length = 127"),
    "window": ('window = "hann"', 'window = "hamming"'),
    "mel scale": ('mel_scale = "htk"', 'mel_scale = "slaney"'),
    "logarithm": ('log = "ln"', 'log = "log10"'),
    "feature offset": ("offset = -10.161", "offset = 0.0"),
    "vocabulary": ("pqrstuvw", "pqrtsuvw"),
    "case": ('alphabet = "abcdefghijklmnopqrstuvwxyz', 'alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'),
    "pad side": ('pad_side = "right"', 'pad_side = "left"'),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_reproduces_the_external_truth(variant: str, tmp_path: Path) -> None:
    """P3: the packed bytes give what PyTorch gave, within the class's tolerance."""
    manifest = pack(TRIDIGIT / "recipe.toml", tmp_path / "t.edgekit", variant)
    assert [g.truth for g in manifest.golden] == ["external"] * 3
    assert manifest.golden[0].result["label"] == "seven"


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("variant", ["fp32", "tflite-int8"])
def test_a_mistake_in_preprocessing_is_refused(mistake: str, variant: str, tmp_path: Path) -> None:
    """P3: seeded mistakes, 13 of 13 refused in float and in int8, and nothing is written."""
    old, new = MISTAKES[mistake]
    recipe = changed_recipe(tmp_path, lambda text: text.replace(old, new, 1))
    with pytest.raises((GateFailed, InputError)) as refused:
        pack(recipe, tmp_path / "t.edgekit", variant)
    assert refused.value.exit_code in (4, 9)
    assert not (tmp_path / "t.edgekit").exists()


def test_bgr_instead_of_rgb_is_refused(tmp_path: Path, shared: Path) -> None:
    """P3 for a colour model: the channel order of an external golden is kept."""
    import numpy as np
    from packing import ROOT

    recipe = tmp_path / "m" / "recipe.toml"
    recipe.parent.mkdir()
    text = (ROOT / "models/mobilenet-v1-128/recipe.toml").read_text("utf-8")
    tensorflows = 'antialias = false\ncoordinates = "asymmetric"\narithmetic = "matrix"'
    assert tensorflows in text
    text = text.replace(tensorflows, 'antialias = true\ncoordinates = "half_pixel"\narithmetic = "pillow"')
    from PIL import Image

    photo = shared / "data/photos/parrot.jpg"
    with Image.open(photo) as image:
        truth = np.asarray(image.convert("RGB").resize((128, 128), Image.Resampling.BILINEAR))
    np.savez(recipe.parent / "expected.npz", pixels=np.moveaxis(truth, -1, 0)[None])
    golden = f"""
[[golden]]
name = "parrot"
origin = "Pillow"
inputs = [{{ image = {{ file = "{photo}" }} }}]
expected = "expected.npz"
tensors = {{ pixels = "pixels" }}
result = {{ label = "macaw" }}
"""
    recipe.write_text(text + golden, "utf-8")
    folders = (shared / "models",)
    assert pack(recipe, tmp_path / "good.edgekit", None, folders).golden[0].truth == "external"
    recipe.write_text(text.replace('colour = "rgb"', 'colour = "bgr"') + golden, "utf-8")
    with pytest.raises(GateFailed, match="pixels"):
        pack(recipe, tmp_path / "bad.edgekit", None, folders)


def test_the_same_source_gives_the_same_bytes(tridigit: Path, tmp_path: Path) -> None:
    """P1: another time zone, folder, hash seed and umask give the same file."""
    program = (
        "import os, sys; os.umask(0o077); sys.path.insert(0, sys.argv[1]); from pathlib import Path; "
        "from packing import pack, TRIDIGIT; pack(TRIDIGIT / 'recipe.toml', Path(sys.argv[2]), 'fp32')"
    )
    for index, zone in enumerate(("Asia/Kathmandu", "America/St_Johns")):
        output = tmp_path / f"{index}.edgekit"
        environment = {**os.environ, "TZ": zone, "PYTHONHASHSEED": str(index + 1), "LC_ALL": "C"}
        command = [sys.executable, "-c", program, str(Path(__file__).parent), str(output)]
        subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
        assert output.read_bytes() == tridigit.read_bytes()


def test_the_target_chooses_the_variant() -> None:
    """The first precision of the target that a runtime of it runs."""
    recipe = known_recipes()["tridigit"]
    chosen = {}
    for target in ("linux-x86_64", "raspberry-pi-5", "jetson-orin-nano", "raspberry-pi-4-32", "android-arm64"):
        chosen[target] = read_recipe(recipe, None, find_target(target), [], quiet).notes[0]
    assert chosen == {
        "linux-x86_64": "variant fp32 (onnxruntime, float32)",
        "raspberry-pi-5": "variant tflite-int8 (litert, int8)",
        "jetson-orin-nano": "variant fp16 (onnxruntime, float16)",
        "raspberry-pi-4-32": "variant tflite-int8 (litert, int8)",
        "android-arm64": "variant tflite-int8 (litert, int8)",
    }


def test_what_cannot_run_on_the_target_is_refused() -> None:
    """A TFLite-only recipe has nothing for a target that has only ONNX Runtime; a wrong name lists the right ones."""
    with pytest.raises(TargetError, match="jetson-orin-nano"):
        read_recipe(known_recipes()["kws-mlperf"], None, find_target("jetson-orin-nano"), [], quiet)
    with pytest.raises(InputError, match="no variant 'int9'") as wrong:
        read_recipe(known_recipes()["tridigit"], "int9", host_target(), [], quiet)
    assert "tflite-int8" in str(wrong.value)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('colour = "grey"', "", "inputs.image.colour"),
        ('colour = "grey"', 'colour = "gray"', "inputs.image.colour"),
        ("std = [0.3081]", "std = [0.3, 0.3, 0.3]", "inputs.image.std"),
        ("lowercase = true", "lower = true", "inputs.text.lower"),
        ("max_length = 8", 'max_length = "8"', "inputs.text.max_length"),
        ('license = "CC-BY-SA-4.0"', "", "license"),
    ],
)
def test_a_wrong_recipe_names_the_key(old: str, new: str, key: str, tmp_path: Path) -> None:
    """Missing, unknown and mistyped keys are errors that name the key: nothing has a default."""
    recipe = changed_recipe(tmp_path, lambda text: text.replace(old, new, 1))
    with pytest.raises(InputError) as refused:
        read_recipe(recipe, "fp32", host_target(), [], quiet)
    assert key in str(refused.value)


def test_a_source_of_other_bytes_is_refused(tmp_path: Path) -> None:
    """A file that is not the one the recipe names by sha256 is refused, and so is one that is not there."""
    (tmp_path / "kws_ref_model.tflite").write_bytes(b"other bytes")
    with pytest.raises(IntegrityError, match="expected sha256"):
        read_recipe(known_recipes()["kws-mlperf"], "int8", host_target(), [tmp_path], quiet)
    with pytest.raises(InputError, match="not found") as absent:
        read_recipe(known_recipes()["kws-mlperf"], "float32", host_target(), [tmp_path], quiet)
    assert "--files" in str(absent.value)


def test_a_hostile_toml_is_an_input_error(tmp_path: Path) -> None:
    """A recipe that is not TOML, not text or not there."""
    for index, data in enumerate((b"name = ", b"\xff\xfe", b"")):
        path = tmp_path / f"{index}.toml"
        path.write_bytes(data)
        with pytest.raises(InputError):
            read_recipe(path, None, host_target(), [], quiet)
    with pytest.raises(InputError, match="No such file"):
        read_recipe(tmp_path / "none.toml", None, host_target(), [], quiet)


def test_a_full_disk_leaves_no_bundle(tridigit: Path) -> None:
    """Packaging onto a full device fails with exit code 3 and leaves nothing behind."""
    from edgekit.errors import BundleError

    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with load(tridigit) as predictor:
        manifest: Manifest = predictor.manifest
    assert manifest.name == "tridigit"
    with pytest.raises(BundleError) as refused:
        pack(TRIDIGIT / "recipe.toml", full / "t.edgekit", "fp32")
    assert refused.value.exit_code == 3
