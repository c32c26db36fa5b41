"""What Linux says of clocks, temperatures, power, memory and load, below any root so that fixtures can pin it.

Sources: kernel documentation, admin-guide/pm/cpufreq.rst (kHz), driver-api/thermal/sysfs-api.rst (milli-degrees),
hwmon/sysfs-interface.rst (mV, mA, milli-degrees), power/powercap/powercap.rst (uJ), proc(5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from edgekit.profiling.readings import Fact, Reading, fact, known, unknown
from edgekit.profiling.sampler import Measured

COLDEST_C = -40.0
HOTTEST_C = 150.0
CPU = "sys/devices/system/cpu"


def read(root: Path, path: str) -> tuple[str | None, str]:
    """The text of a file below `root` without its end, or null and the reason."""
    try:
        return (root / path).read_text(encoding="utf-8", errors="replace").strip("\0\n "), ""
    except FileNotFoundError:
        return None, f"/{path} is absent"
    except PermissionError:
        return None, f"/{path} may not be read by this user"
    except OSError as error:
        return None, f"/{path} cannot be read ({error.strerror})"


def number(root: Path, path: str) -> tuple[float | None, str]:
    """The number in a file below `root`, or null and the reason."""
    text, reason = read(root, path)
    if text is None:
        return None, reason
    try:
        return float(text), ""
    except ValueError:
        return None, f"/{path} holds {text[:20]!r}, not a number"


def temperature(name: str, degrees: float | None, reason: str, source: str) -> Measured:
    """A temperature, null where no running board has it (an absent Jetson sensor reads -256)."""
    if degrees is not None and not COLDEST_C <= degrees <= HOTTEST_C:
        degrees, reason = None, f"reads {degrees:g} C, which no running board has"
    return Measured(f"temp.{name}", "C", degrees, None if degrees is not None else reason, source)


def power(name: str, watts: float | None, reason: str, source: str) -> Measured:
    """A power, null where it is negative (a sensor mounted backwards, or a lie)."""
    if watts is not None and watts < 0:
        watts, reason = None, f"reads {watts:g} W, less than nothing"
    return Measured(f"power.{name}", "W", watts, None if watts is not None else reason, source)


def _policies(root: Path) -> list[Path]:
    """A cpufreq folder per clock domain, or per processor where the kernel tells no domains."""
    found = sorted((root / CPU / "cpufreq").glob("policy[0-9]*"), key=_last_number)
    return found or sorted((root / CPU).glob("cpu[0-9]*/cpufreq"), key=_last_number)


def _last_number(path: Path) -> int:
    return int(re.findall(r"\d+", str(path))[-1])


def _policy_name(path: Path) -> str:
    return path.parent.name if path.name == "cpufreq" else path.name


def cpu_clocks(root: Path) -> list[Measured]:
    """The clock of each domain in MHz; without cpufreq what /proc/cpuinfo says."""
    measured = []
    for policy in _policies(root):
        path = f"{policy.relative_to(root)}/scaling_cur_freq"
        khz, reason = number(root, path)
        mhz = None if khz is None else khz / 1e3
        if mhz is not None and mhz <= 0:
            mhz, reason = None, f"/{path} says {mhz:g}"
        measured.append(Measured(f"clock.{_policy_name(policy)}", "MHz", mhz, reason or None, f"/{path}"))
    if measured:
        return measured
    text, _ = read(root, "proc/cpuinfo")
    clocks = [float(mhz) for mhz in re.findall(r"^cpu MHz\s*: ([\d.]+)", text or "", re.MULTILINE)]
    reason = f"/{CPU} has no cpufreq and /proc/cpuinfo no clock"
    return [Measured("clock.cpuinfo", "MHz", max(clocks, default=None), None if clocks else reason, "/proc/cpuinfo")]


def governor(root: Path) -> Fact:
    """The governors in use, one name where all clock domains have the same."""
    names = [read(root, f"{p.relative_to(root)}/scaling_governor")[0] for p in _policies(root)]
    return fact("+".join(sorted({name for name in names if name})), f"/{CPU} has no cpufreq governor")


def clock_limit_mhz(root: Path) -> Reading:
    """The highest clock that the system allows now, of the fastest domain."""
    limits = [number(root, f"{p.relative_to(root)}/{name}")[0] for p in _policies(root) for name in _LIMITS]
    khz = [limit for limit in limits if limit]
    return known(max(khz) / 1e3) if khz else unknown(f"/{CPU} has no cpufreq")


_LIMITS = ("scaling_max_freq",)


def thermal_zones(root: Path) -> list[Measured]:
    """Every thermal zone by its type; zones of one type are numbered."""
    measured, seen = [], dict.fromkeys([""], 0)
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone[0-9]*"), key=_last_number):
        base = str(zone.relative_to(root))
        kind = (read(root, f"{base}/type")[0] or zone.name).removesuffix("-thermal")
        seen[kind] = seen.get(kind, 0) + 1
        name = kind if seen[kind] == 1 else f"{kind}#{seen[kind]}"
        milli, reason = number(root, f"{base}/temp")
        measured.append(temperature(name, None if milli is None else milli / 1e3, reason, f"/{base}/temp"))
    return measured


def hwmon_temperatures(root: Path) -> list[Measured]:
    """The processor's own sensors on machines without a thermal zone for it (coretemp, k10temp, zenpower)."""
    measured = []
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon[0-9]*"), key=_last_number):
        base = str(chip.relative_to(root))
        name = read(root, f"{base}/name")[0]
        if name in ("coretemp", "k10temp", "zenpower"):
            milli, reason = number(root, f"{base}/temp1_input")
            degrees = None if milli is None else milli / 1e3
            measured.append(temperature(name, degrees, reason, f"/{base}/temp1_input"))
    return measured


def fans(root: Path) -> list[Measured]:
    """Fans in revolutions per minute."""
    paths = sorted((root / "sys/class/hwmon").glob("hwmon[0-9]*/fan1_input"), key=_last_number)
    measured = []
    for i, path in enumerate(paths):
        source = str(path.relative_to(root))
        rpm, reason = number(root, source)
        measured.append(Measured(f"fan.{i}", "rpm", rpm, reason or None, f"/{source}"))
    return measured


def battery_power(root: Path) -> list[Measured]:
    """What is drawn from a battery while it discharges; null while it charges, since then it says nothing."""
    measured = []
    for supply in sorted((root / "sys/class/power_supply").glob("*")):
        base = str(supply.relative_to(root))
        if read(root, f"{base}/type")[0] != "Battery":
            continue
        status, _ = read(root, f"{base}/status")
        microvolts, no_voltage = number(root, f"{base}/voltage_now")
        microamperes, no_current = number(root, f"{base}/current_now")
        watts, reason = None, no_voltage or no_current or f"the battery says {status!r}"
        if status == "Discharging" and microvolts is not None and microamperes is not None:
            # The sign of current_now while discharging differs between drivers.
            watts = microvolts * abs(microamperes) / 1e12
        measured.append(power(supply.name, watts, reason, f"/{base}"))
    return measured


def rapl_energy(root: Path) -> dict[str, tuple[float, float]]:
    """Per RAPL package its energy counter and the range at which it wraps, in joules; none that cannot be read."""
    counters = {}
    for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:[0-9]*")):
        if zone.name.count(":") != 1:
            continue  # a part of a package is counted in it
        base = str(zone.relative_to(root))
        energy, _ = number(root, f"{base}/energy_uj")
        wrap, _ = number(root, f"{base}/max_energy_range_uj")
        if energy is not None and wrap is not None:
            counters[read(root, f"{base}/name")[0] or zone.name] = (energy / 1e6, wrap / 1e6)
    return counters


def rapl_reason(root: Path) -> str:
    """Why there is no RAPL reading."""
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:[0-9]*"))
    if not zones:
        return "no power sensor in /sys (RAPL, INA3221, battery) and none by command"
    return number(root, f"{zones[0].relative_to(root)}/energy_uj")[1] or "RAPL needs two readings"


def rapl_power(
    before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]], seconds: float
) -> list[Measured]:
    """Mean power between two readings; a counter that went back has wrapped once."""
    measured = []
    for name, (energy, wrap) in after.items():
        if name in before and seconds > 0:
            joules = energy - before[name][0]
            joules += wrap if joules < 0 else 0.0
            measured.append(power(name, joules / seconds, "", "RAPL energy_uj"))
    return measured


def memory(root: Path) -> list[Measured]:
    """RAM that is available and swap in use, in MiB."""
    text, reason = read(root, "proc/meminfo")
    kib = {name: float(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", text or "", re.MULTILINE)}
    available = kib.get("MemAvailable")
    swap = kib["SwapTotal"] - kib["SwapFree"] if {"SwapTotal", "SwapFree"} <= kib.keys() else None
    missing = reason or "/proc/meminfo does not say"
    return [
        _mebibytes("ram.available", available, missing),
        _mebibytes("swap.used", swap, missing),
    ]


def _mebibytes(name: str, kib: float | None, reason: str) -> Measured:
    return Measured(name, "MiB", None if kib is None else kib / 1024, reason if kib is None else None, "/proc/meminfo")


def ram_bytes(root: Path) -> Reading:
    """All RAM of the machine."""
    text, reason = read(root, "proc/meminfo")
    found = re.search(r"^MemTotal:\s+(\d+) kB$", text or "", re.MULTILINE)
    return known(int(found[1]) * 1024) if found else unknown(reason or "/proc/meminfo does not say")


def busy_s(root: Path, ticks_per_s: float) -> float | None:
    """Seconds that all processors together were not idle since boot, from the first line of /proc/stat."""
    text, _ = read(root, "proc/stat")
    found = re.match(r"cpu +(\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", text or "")
    if not found:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, found.groups())
    return (user + nice + system + irq + softirq + steal) / ticks_per_s


def load_by_others(busy_before_s: float | None, busy_after_s: float | None, own_s: float, wall_s: float) -> Reading:
    """Processors kept busy by all other processes, on average, in cores; own_s is this process's processor time."""
    if busy_before_s is None or busy_after_s is None:
        return unknown("/proc/stat cannot be read")
    if wall_s <= 0:
        return unknown("no time passed")
    return known(max(0.0, busy_after_s - busy_before_s - own_s) / wall_s)
