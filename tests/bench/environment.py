"""The peers' environments, made once in a cache folder: `light` without torch, `full` with it on top of `light`."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MADE = "made.txt"

LIGHT = (
    "numpy",
    "pillow",
    "onnxruntime",
    "ai-edge-litert",
    "tokenizers",
    "soundfile",
    "onnx",
    "pytest",
    "transformers",
    "librosa",
    "soxr",
    "mediapipe",
    "onnxruntime-extensions",
    "kaldi-native-fbank",
    "simplejpeg",
)
TORCH = ("torch==2.13.0",)
ON_TORCH = ("torchvision", "torchaudio", "silero-vad")


class Environment:
    """Two interpreters; every process that is measured is started by one of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.light = folder / "light" / "bin" / "python"
        self.full = folder / "full" / "bin" / "python"


def default_folder() -> Path:
    """`$EDGEKIT_BENCH_ENV`, or a folder in the user's cache."""
    own = os.environ.get("EDGEKIT_BENCH_ENV")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(own) if own else cache / "edgekit-bench"


def prepare(folder: Path) -> Environment:
    """The environments in `folder`, installed if they are not there yet."""
    environment = Environment(folder)
    wanted = "\n".join((sys.version.split()[0], *LIGHT, *TORCH, *ON_TORCH)) + "\n"
    made = folder / MADE
    if made.is_file() and made.read_text("utf-8") == wanted:
        return environment
    folder.mkdir(parents=True, exist_ok=True)
    for name, python in (("light", environment.light), ("full", environment.full)):
        print(f"making {folder / name}", file=sys.stderr)
        venv.create(folder / name, with_pip=True, symlinks=True)
        _install(python, LIGHT if name == "light" else TORCH)
    _install(environment.full, ("--no-deps", *ON_TORCH))
    light, full = _packages(environment.light), _packages(environment.full)
    (full / "light.pth").write_text(f"{light}\n", "utf-8")
    # The index has torchaudio for CUDA only; what is measured of it (kaldi.fbank) is made of torch's operators.
    for library in (full / "torchaudio" / "lib").glob("*.so"):
        library.unlink()
    made.write_text(wanted, "utf-8")
    return environment


def _install(python: Path, packages: tuple[str, ...]) -> None:
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, stdout=sys.stderr)


def _packages(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip())


def child_environment(**more: str) -> dict[str, str]:
    """What measured processes see: edgekit and the benchmark from the working tree, no network, no progress bars."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**own, "PYTHONPATH": paths, **quiet, **more}
