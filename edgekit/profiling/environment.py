"""Which machine this is, in the facts that its figures depend on, and which versions run on it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgekit import requirements
from edgekit.profiling.board_sensors import parse_nvpmodel
from edgekit.profiling.linux_sensors import clock_limit_mhz, governor, ram_bytes, read
from edgekit.profiling.readings import fact
from edgekit.profiling.report import Environment, environment_id
from edgekit.profiling.sensors import Command, run_command

ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd44": "Cortex-X1",
    "0xd46": "Cortex-A510",
    "0xd47": "Cortex-A710",
    "0xd48": "Cortex-X2",
}
"""MIDR part numbers of implementer 0x41 (Arm), from the processors' technical reference manuals."""

UNKNOWN_BOARD = "unknown board"

PACKAGES = ("edgekit-sdk", "numpy", "onnxruntime", "onnxruntime-gpu", "ai-edge-litert", "tflite-runtime", "tokenizers")


def this_environment(root: Path = Path("/"), command: Command = run_command) -> Environment:
    """The environment of this machine; `id` is the same only where all of these facts are."""
    modes = command(("nvpmodel", "-q"))
    power_mode = parse_nvpmodel(modes) if modes is not None else fact(None, "no nvpmodel: not a Jetson")
    facts = {
        "board": board_name(root),
        "cpu": cpu_name(root),
        "architecture": platform.machine(),
        "cores": str(os.cpu_count() or 0),
        "os": os_name(root),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "governor": governor(root).text or "",
        "power_mode": power_mode.text or "",
        "clock_limit_mhz": str(clock_limit_mhz(root).value or ""),
        "ram_bytes": str(ram_bytes(root).value or ""),
    }
    return Environment(
        id=environment_id(facts),
        board=facts["board"],
        cpu=facts["cpu"],
        architecture=facts["architecture"],
        cores=int(facts["cores"]),
        ram_bytes=ram_bytes(root),
        os=facts["os"],
        kernel=facts["kernel"],
        python=facts["python"],
        governor=governor(root),
        power_mode=power_mode,
        clock_limit_mhz=clock_limit_mhz(root),
    )


def board_name(root: Path) -> str:
    """The board by its device tree, else by its firmware tables, else `unknown board`."""
    for path in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        model, _ = read(root, path)
        if model:
            return model
    parts = [read(root, f"sys/class/dmi/id/{name}")[0] for name in ("sys_vendor", "product_name")]
    return " ".join(part for part in parts if part) or UNKNOWN_BOARD


def cpu_name(root: Path) -> str:
    """The processor's name, or the names of its kinds of cores with their numbers."""
    text, _ = read(root, "proc/cpuinfo")
    named = re.search(r"^(?:model name|Hardware)\s*: (.+)$", text or "", re.MULTILINE)
    parts = re.findall(r"^CPU part\s*: (0x[0-9a-f]+)$", text or "", re.MULTILINE)
    if parts:
        kinds = {part: parts.count(part) for part in dict.fromkeys(parts)}
        return " + ".join(f"{count} x {ARM_PARTS.get(part, 'ARM part ' + part)}" for part, count in kinds.items())
    return named[1].strip() if named else platform.processor() or "unknown processor"


def os_name(root: Path) -> str:
    """The system's own name for itself."""
    text, _ = read(root, "etc/os-release")
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)"?$', text or "", re.MULTILINE)
    return found[1] if found else platform.system()


def installed_versions(names: Iterable[str] = PACKAGES, folders: Sequence[str] | None = None) -> dict[str, str]:
    """The installed version of each package that is installed; nothing is imported for it."""
    return requirements.installed_versions(names, folders)
