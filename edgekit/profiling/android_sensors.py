"""What an Android device says of battery, heat, clocks and memory through its shell, and which machine it is.

Sources: AOSP BatteryService.java (dumpsys battery: level of scale, mV, tenths of a degree, status of
BatteryManager), ThermalManagerService.java (dumpsys thermalservice: `Thermal Status: 0` to 6 of PowerManager's
THERMAL_STATUS_*, temperatures from the HAL), kernel documentation (cpufreq in kHz, thermal zones in milli-degrees).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from edgekit.errors import TransportError
from edgekit.profiling.environment import ARM_PARTS
from edgekit.profiling.linux_sensors import temperature
from edgekit.profiling.readings import Fact, Reading, Throttle, fact, known, no_throttle_flags, unknown
from edgekit.profiling.report import Environment, environment_id
from edgekit.profiling.sampler import Measured
from edgekit.profiling.sensors import Snapshot, primary_clock, primary_temperature
from edgekit.records import Record

# One part per source; what cannot be read says why in the tool's own words.
SCRIPT = """
part() { printf 'edgekit:part %s\\n' "$1"; }
show() { printf '%s\\t%s\\n' "$1" "$(cat "$2" 2>&1 | head -n 1)"; }
part battery
dumpsys battery 2>&1 || true
part thermal
dumpsys thermalservice 2>&1 || true
part clocks
for policy in /sys/devices/system/cpu/cpufreq/policy*; do
  if [ -d "$policy" ]; then
    for key in scaling_cur_freq scaling_max_freq scaling_governor; do show "${policy##*/} $key" "$policy/$key"; done
  fi
done
part zones
for zone in /sys/class/thermal/thermal_zone*; do
  if [ -d "$zone" ]; then show "$(cat "$zone/type" 2>&1 | head -n 1)" "$zone/temp"; fi
done
part memory
cat /proc/meminfo 2>&1 || true
"""

PARTS = ("battery", "thermal", "clocks", "zones", "memory")
STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""PowerManager.THERMAL_STATUS_NONE to THERMAL_STATUS_SHUTDOWN."""
CHARGING = {1: "unknown", 2: "charging", 3: "discharging", 4: "not charging", 5: "full"}
"""BatteryManager.BATTERY_STATUS_*."""

NO_POWER = "battery current is not told to the shell, and a phone is fed over USB while it is measured"
_KIB = 1024
_TEMPERATURE = re.compile(r"Temperature\{mValue=(-?\d+(?:\.\d+)?), mType=(-?\d+), mName=([^,}]+), mStatus=(\d+)\}")


class PhoneReading(Record):
    """Everything at one moment. battery: in words. governor, limit_mhz: of the fastest cluster."""

    measured: tuple[Measured, ...]
    throttle: Throttle
    battery: Fact
    governor: Fact
    limit_mhz: Reading


def parse_reading(lines: Sequence[str], name: str) -> PhoneReading:
    """What the script printed; `name` is the device's. Raises TransportError where a part is missing."""
    parts: dict[str, list[str]] = {}
    for line in lines:
        mark, _, part = line.partition("edgekit:part ")
        if not mark and part:
            parts[part] = []
        elif parts:
            parts[next(reversed(parts))].append(line.rstrip())
    if tuple(parts) != PARTS:
        raise TransportError(f"{name} describes its sensors in a way that cannot be understood: {list(parts)}")
    battery = _battery(parts["battery"])
    clocks = _table(parts["clocks"])
    measured = [*_clocks(clocks), *_zones(parts["zones"]), *_hal(parts["thermal"]), *_battery_heat(battery, parts)]
    throttle = thermal_status(parts["thermal"])
    measured += [_throttled(throttle), Measured("power", "W", None, NO_POWER, "none"), *_memory(parts["memory"])]
    if not any(item.name.startswith("clock.") for item in measured):
        measured.append(Measured("clock", "MHz", None, "no cpufreq policy in /sys", "none"))
    if not any(item.name.startswith("temp.") for item in measured):
        measured.append(Measured("temp", "C", None, f"no thermal zone; {_said(parts['thermal'])}", "none"))
    fastest = max(clocks, key=lambda policy: _number(clocks[policy].get("scaling_max_freq", "")) or 0.0, default="")
    limit_khz = _number(clocks.get(fastest, {}).get("scaling_max_freq", ""))
    return PhoneReading(
        measured=tuple({item.name: item for item in reversed(measured)}.values())[::-1],
        throttle=throttle,
        battery=battery_words(battery, _said(parts["battery"])),
        governor=fact(_word(clocks.get(fastest, {}).get("scaling_governor", "")), "no cpufreq policy in /sys"),
        limit_mhz=known(limit_khz / 1e3) if limit_khz else unknown("scaling_max_freq may not be read"),
    )


def thermal_status(lines: Sequence[str]) -> Throttle:
    """What the system says of throttling; since_boot is not told, so it is empty."""
    match = next((m for m in (re.search(r"Thermal Status: (\d+)", line) for line in lines) if m), None)
    if match is None or int(match[1]) >= len(STATUS):
        return no_throttle_flags(f"dumpsys thermalservice tells no status ({_said(lines)})")
    level = int(match[1])
    now = (f"thermal status {STATUS[level]}",) if level else ()
    return Throttle(now=now, since_boot=(), source="dumpsys thermalservice", reason=None)


def battery_words(battery: Mapping[str, str], said: str) -> Fact:
    """Level, what it does and what feeds the phone; null where there is no battery service."""
    if "level" not in battery:
        return Fact(text=None, reason=f"dumpsys battery tells no level ({said})")
    scale = _number(battery.get("scale", "")) or 100.0
    level = 100.0 * (_number(battery["level"]) or 0.0) / scale
    does = CHARGING.get(int(_number(battery.get("status", "")) or 1), "unknown")
    feeds = [word for word in ("AC", "USB", "Wireless") if battery.get(f"{word} powered") == "true"]
    return Fact(text=f"{level:.0f} %, {does}, fed by {' and '.join(feeds) or 'itself'}", reason=None)


def phone_snapshot(reading: PhoneReading, at_s: float) -> Snapshot:
    """The conditions at a moment of this machine's monotonic clock."""
    measured = reading.measured
    return Snapshot(
        temperature_c=_reading(primary_temperature(measured), measured, "temp"),
        clock_mhz=_reading(primary_clock(measured), measured, "clock"),
        throttle=reading.throttle,
        busy_s=None,
        at_s=at_s,
        own_s=0.0,
    )


def phone_environment(
    reading: PhoneReading,
    *,
    model: str,
    system: str,
    kernel: str,
    abi: str,
    cores: int,
    cpu_parts: Sequence[str],
    ram_total_bytes: int,
) -> Environment:
    """The machine; `id` is the same only where all of these facts are."""
    parts = [part for part in cpu_parts if part in ARM_PARTS]
    facts = {
        "board": model or "unknown phone",
        "cpu": " + ".join(ARM_PARTS[part] for part in parts) or "unknown processor",
        "architecture": abi,
        "cores": str(cores),
        "os": system,
        "kernel": kernel,
        "governor": reading.governor.text or "",
        "clock_limit_mhz": str(reading.limit_mhz.value or ""),
        "ram_bytes": str(ram_total_bytes),
    }
    return Environment(
        id=environment_id(facts),
        board=facts["board"],
        cpu=facts["cpu"],
        architecture=abi,
        cores=cores,
        ram_bytes=known(ram_total_bytes),
        os=system,
        kernel=kernel,
        python="none",
        governor=reading.governor,
        power_mode=Fact(text=None, reason="Android tells the shell no power mode that a benchmark depends on"),
        clock_limit_mhz=reading.limit_mhz,
    )


def _battery(lines: Sequence[str]) -> dict[str, str]:
    """`key: value` of the first section; a log that follows it on some devices says other things."""
    found: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.strip().partition(": ")
        if colon and line.startswith("  "):
            found.setdefault(key, value.strip())
    return found


def _battery_heat(battery: Mapping[str, str], parts: Mapping[str, Sequence[str]]) -> list[Measured]:
    tenths = _number(battery.get("temperature", ""))
    degrees = None if tenths is None else tenths / 10.0
    return [temperature("battery", degrees, _said(parts["battery"]), "dumpsys battery")]


def _hal(lines: Sequence[str]) -> list[Measured]:
    """Temperatures of the HAL: those after `Current temperatures from HAL` where that is there, else all."""
    start = next((i for i, line in enumerate(lines) if line.startswith("Current temperatures from HAL")), -1)
    found = [m for m in map(_TEMPERATURE.search, lines[start + 1 :]) if m]
    return [temperature(m[3].strip(), float(m[1]), "", "dumpsys thermalservice") for m in found]


def _zones(lines: Sequence[str]) -> list[Measured]:
    measured = []
    for line in lines:
        name, _, value = line.partition("\t")
        milli = _number(value)
        degrees = None if milli is None else milli / 1e3
        measured.append(temperature(name.strip() or "zone", degrees, value or "empty", "/sys/class/thermal"))
    return measured


def _clocks(clocks: Mapping[str, Mapping[str, str]]) -> list[Measured]:
    measured = []
    for policy, values in clocks.items():
        said = values.get("scaling_cur_freq", "")
        khz = _number(said)
        source = f"/sys/devices/system/cpu/cpufreq/{policy}"
        measured.append(
            Measured(f"clock.{policy}", "MHz", khz / 1e3 if khz else None, None if khz else said or "empty", source)
        )
    return measured


def _table(lines: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        words, _, value = line.partition("\t")
        policy, _, key = words.partition(" ")
        found.setdefault(policy, {})[key] = value
    return found


def _memory(lines: Sequence[str]) -> list[Measured]:
    match = next((m for m in (re.match(r"MemAvailable:\s+(\d+) kB", line) for line in lines) if m), None)
    value = float(match[1]) * _KIB if match else None
    return [Measured("memory.available", "bytes", value, None if match else _said(lines), "/proc/meminfo")]


def _throttled(throttle: Throttle) -> Measured:
    if throttle.now is None:
        return Measured("throttled", "flag", None, throttle.reason, "none")
    return Measured("throttled", "flag", 1.0 if throttle.now else 0.0, None, throttle.source or "")


def _reading(chosen: Measured | None, measured: Sequence[Measured], prefix: str) -> Reading:
    if chosen is not None and chosen.value is not None:
        return known(chosen.value)
    reasons = [item.reason for item in measured if item.name.startswith(prefix) and item.reason]
    return unknown(reasons[0] if reasons else "no such sensor")


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text.strip()) else None


def _word(text: str) -> str:
    return text if re.fullmatch(r"[a-z_]+", text) else ""


def _said(lines: Sequence[str]) -> str:
    """The first words of a tool that gave no answer."""
    return next((line.strip()[:120] for line in lines if line.strip()), "no answer")
