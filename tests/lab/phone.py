"""What the stand-in for benchmark_model needs on a phone: LiteRT and numpy for its processor and Python 3.13."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from . import rootfs
from .device import Device
from .host import run

RUNNER = Path(__file__).with_name("benchmark_model.py")

_PACKAGES = ("ai-edge-litert==2.3.0", "numpy==2.4.6")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_GLIBC = ("2_17", "2_27", "2_28", "2_34")


def furnish(device: Device) -> None:
    """Put the wheels of the device's kind where its Python finds them; downloaded once."""
    arch = device.spec.arch
    kept = rootfs.cache_folder() / f"runner-{arch}-{'-'.join(_PACKAGES).replace('==', '-')}"
    if not kept.is_dir():
        building = kept.with_suffix(".building")
        shutil.rmtree(building, ignore_errors=True)
        platforms = [f"--platform=manylinux_{glibc}_{_MACHINES[arch]}" for glibc in _GLIBC]
        platforms.append(f"--platform=manylinux2014_{_MACHINES[arch]}")
        what = ["--python-version=3.13", "--implementation=cp", "--abi=cp313", "--abi=abi3", "--abi=none"]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:"]
        run(*pip, *what, *platforms, "--target", building, *_PACKAGES, timeout_s=600)
        building.rename(kept)
    run("cp", "-r", f"{kept}/.", device.root / "usr/lib/python3/dist-packages", timeout_s=120)
