"""What /sys, /proc/cpuinfo and /proc/meminfo say on the boards that devices pretend to be.

An emulated device must never see the host's /sys: onnxruntime and LiteRT crash on a CPU folder of
another architecture. The trees hold the files that a runtime or a profiler reads, in the kernel's
formats. Sources of the values:

* identification: Arm's technical reference manuals, MIDR_EL1 (A53 0x410fd034, A72 0x410fd083,
  A76 0x414fd0b1); `Features`: what the 64-bit and the 32-bit kernel print for these cores
* revision codes: Raspberry Pi documentation, "Raspberry Pi revision codes"
* clocks: Raspberry Pi documentation, config.txt, default arm_freq
* get_throttled: drivers/firmware/raspberrypi.c of Raspberry Pi's kernel ("%x" of the mailbox
  property; bits as `vcgencmd get_throttled`)
* MemTotal (a little under the RAM), temperatures and serial numbers are constructed
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

MIB = 2**20
_A53_FEATURES = "fp asimd evtstrm crc32 cpuid"
_A76_FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
_ARMV7_FEATURES = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32"


@dataclass(frozen=True)
class Core:
    """A CPU core as the kernel describes it."""

    midr: int
    features: str
    bogomips: str


CORES = {
    "cortex-a53": Core(0x410FD034, _A53_FEATURES, "38.40"),
    "cortex-a72": Core(0x410FD083, _A53_FEATURES, "108.00"),
    "cortex-a76": Core(0x414FD0B1, _A76_FEATURES, "108.00"),
}


def core_of(board: Board, arch: str, cpu: str) -> Core | None:
    """What the kernel would say of the core: the emulated one, so that features are true.

    A 32-bit system is emulated on a Cortex-A7, because QEMU's 32-bit user mode has no
    Cortex-A53; there the board's own core is shown, with the features of a 32-bit kernel.
    """
    if not board.core:
        return None
    if arch == "armhf":
        return replace(CORES[board.core], features=_ARMV7_FEATURES)
    return CORES[cpu]


@dataclass(frozen=True)
class Board:
    """One board: `model` as in the device tree, clocks in kHz; no core means a plain PC."""

    name: str
    model: str
    compatible: tuple[str, ...]
    revision: str
    core: str
    core_count: int
    ram_bytes: int
    min_khz: int
    max_khz: int


BOARDS = {
    "pi5": Board(
        "pi5",
        "Raspberry Pi 5 Model B Rev 1.0",
        ("raspberrypi,5-model-b", "brcm,bcm2712"),
        "d04170",
        "cortex-a76",
        4,
        8064 * MIB,
        1_500_000,
        2_400_000,
    ),
    "pi4": Board(
        "pi4",
        "Raspberry Pi 4 Model B Rev 1.4",
        ("raspberrypi,4-model-b", "brcm,bcm2711"),
        "c03114",
        "cortex-a72",
        4,
        3792 * MIB,
        600_000,
        1_500_000,
    ),
    "pi3": Board(
        "pi3",
        "Raspberry Pi 3 Model B Plus Rev 1.3",
        ("raspberrypi,3-model-b-plus", "brcm,bcm2837"),
        "a020d3",
        "cortex-a53",
        4,
        906 * MIB,
        600_000,
        1_400_000,
    ),
    "zero2w": Board(
        "zero2w",
        "Raspberry Pi Zero 2 W Rev 1.0",
        ("raspberrypi,model-zero-2-w", "brcm,bcm2837"),
        "902120",
        "cortex-a53",
        4,
        416 * MIB,
        600_000,
        1_000_000,
    ),
    # A machine without a device tree: what a plain x86-64 computer shows.
    "pc": Board("pc", "", (), "", "", 2, 3900 * MIB, 800_000, 3_000_000),
}


def write_sys(board: Board, core: Core | None, root: Path) -> None:
    """Write the tree that is mounted over /sys."""
    files = _cpu_files(board, core) | _sensor_files() | _identity_files(board)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "fs/cgroup").mkdir(parents=True, exist_ok=True)


def _cpu_files(board: Board, core: Core | None) -> dict[str, str]:
    last = board.core_count - 1
    folder = "devices/system/cpu"
    files = {
        f"{folder}/possible": f"0-{last}\n",
        f"{folder}/present": f"0-{last}\n",
        f"{folder}/online": f"0-{last}\n",
        f"{folder}/offline": "\n",
        f"{folder}/kernel_max": f"{last}\n",
    }
    for number in range(board.core_count):
        files |= _one_cpu(f"{folder}/cpu{number}", number, board, core)
    return files


def _one_cpu(folder: str, number: int, board: Board, core: Core | None) -> dict[str, str]:
    files = {
        f"{folder}/online": "1\n",
        f"{folder}/topology/core_id": f"{number}\n",
        f"{folder}/topology/physical_package_id": "0\n",
        f"{folder}/topology/core_siblings": f"{(1 << board.core_count) - 1:x}\n",
        f"{folder}/topology/core_siblings_list": f"0-{board.core_count - 1}\n",
        f"{folder}/cpufreq/cpuinfo_min_freq": f"{board.min_khz}\n",
        f"{folder}/cpufreq/cpuinfo_max_freq": f"{board.max_khz}\n",
        f"{folder}/cpufreq/scaling_cur_freq": f"{board.max_khz}\n",
        f"{folder}/cpufreq/scaling_governor": "ondemand\n",
        f"{folder}/cpufreq/scaling_available_governors": "ondemand performance powersave\n",
    }
    if core and core.features != _ARMV7_FEATURES:  # a 32-bit kernel has no such file
        files[f"{folder}/regs/identification/midr_el1"] = f"0x{core.midr:016x}\n"
    return files


def _sensor_files() -> dict[str, str]:
    zone = "class/thermal/thermal_zone0"
    return {f"{zone}/type": "cpu-thermal\n", f"{zone}/temp": "48312\n"}


THROTTLED_FILE = "devices/platform/soc/soc:firmware/get_throttled"


def _identity_files(board: Board) -> dict[str, str]:
    if not board.model:
        return {"class/dmi/id/sys_vendor": "edgelab\n", "class/dmi/id/product_name": "PC\n"}
    tree = "firmware/devicetree/base"
    return {
        # Device tree strings end with NUL, without a newline.
        f"{tree}/model": f"{board.model}\0",
        f"{tree}/compatible": "".join(f"{name}\0" for name in board.compatible),
        f"{tree}/serial-number": "10000000abcdef01\0",
        THROTTLED_FILE: "0\n",
    }


def cpuinfo(board: Board, core: Core) -> str:
    """/proc/cpuinfo of the board with this core (arch/arm64 and arch/arm, c_show)."""
    is_32_bit = core.features == _ARMV7_FEATURES
    blocks = []
    for number in range(board.core_count):
        model = f"model name\t: ARMv7 Processor rev {core.midr & 15} (v7l)\n" if is_32_bit else ""
        blocks.append(
            f"processor\t: {number}\n"
            f"{model}"
            f"BogoMIPS\t: {core.bogomips}\n"
            f"Features\t: {core.features}\n"
            f"CPU implementer\t: 0x{core.midr >> 24:02x}\n"
            f"CPU architecture: {7 if is_32_bit else 8}\n"
            f"CPU variant\t: 0x{core.midr >> 20 & 15:x}\n"
            f"CPU part\t: 0x{core.midr >> 4 & 0xFFF:03x}\n"
            f"CPU revision\t: {core.midr & 15}\n"
        )
    tail = f"Revision\t: {board.revision}\nSerial\t\t: 10000000abcdef01\nModel\t\t: {board.model}\n"
    return "\n".join([*blocks, tail])


def meminfo(ram_bytes: int) -> str:
    """/proc/meminfo of a machine of which three quarters are free."""
    total_kb = ram_bytes // 1024
    rows = {
        "MemTotal": total_kb,
        "MemFree": total_kb // 2,
        "MemAvailable": total_kb * 3 // 4,
        "Buffers": total_kb // 64,
        "Cached": total_kb // 5,
        "SwapCached": 0,
        "SwapTotal": 0,
        "SwapFree": 0,
    }
    return "".join(f"{name + ':':<15} {value:>8} kB\n" for name, value in rows.items())
