"""What only one kind of board says: Raspberry Pi firmware, Jetson rails and power mode, Android's services."""

from __future__ import annotations

import re
from pathlib import Path

from edgekit.profiling.linux_sensors import number, power, read, temperature
from edgekit.profiling.readings import Fact, Throttle, fact, no_throttle_flags
from edgekit.profiling.sampler import Measured

PI_THROTTLE_BITS = ("under-voltage", "ARM frequency capped", "throttled", "soft temperature limit")
"""Bits 0 to 3, now, and 16 to 19, since boot: raspberrypi.com/documentation/computers/os.html#get_throttled."""

PI_THROTTLE_PATHS = (
    "sys/devices/platform/soc*/*firmware/get_throttled",
    "sys/devices/platform/*firmware/get_throttled",
)
"""The Pi kernel's driver firmware/raspberrypi.c; the folder's name differs between boards."""

ANDROID_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""android.os.PowerManager.THERMAL_STATUS_*."""

ANDROID_TEMPERATURES = {0: "cpu", 1: "gpu", 2: "battery", 3: "skin", 4: "usb", 5: "pa", 9: "npu", 10: "tpu"}
"""android.os.Temperature.TYPE_*; 6 to 8 are limits of the battery's current, no temperatures."""


def decode_throttled(bits: int, source: str) -> Throttle:
    """The Pi firmware's bits in words."""
    names = list(enumerate(PI_THROTTLE_BITS))
    return Throttle(
        now=tuple(name for bit, name in names if bits >> bit & 1),
        since_boot=tuple(name for bit, name in names if bits >> (bit + 16) & 1),
        source=source,
        reason=None,
    )


def parse_throttled(text: str, source: str) -> Throttle:
    """From `throttled=0x50005` (vcgencmd) or `50005` (the driver's file, hexadecimal without a prefix)."""
    found = re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})", text.strip())
    if not found:
        return no_throttle_flags(f"{source} says {text.strip()[:60]!r}")
    return decode_throttled(int(found[1], 16), source)


def pi_throttle(root: Path, vcgencmd: str | None) -> Throttle:
    """From the firmware's file below `root`, else from what `vcgencmd get_throttled` printed (null: it did not)."""
    for pattern in PI_THROTTLE_PATHS:
        for path in sorted(root.glob(pattern)):
            source = str(path.relative_to(root))
            text, _ = read(root, source)
            if text is not None:
                return parse_throttled(text, f"/{source}")
    if vcgencmd is not None:
        return parse_throttled(vcgencmd, "vcgencmd get_throttled")
    return no_throttle_flags("no firmware or thermal service that tells throttling")


def parse_pmic(text: str) -> list[Measured]:
    """The power of a Pi 5 behind its PMIC: volt times ampere of every rail that has both, from `pmic_read_adc`.

    Not in it: the 5 V of USB and fan, whose current is not measured, and the converters' losses.
    """
    values = {
        (rail, unit): float(value)
        for rail, unit, value in re.findall(
            r"^\s*(\w+)_([AV]) (?:current|volt)\(\d+\)=([\d.]+)[AV]$", text, re.MULTILINE
        )
    }
    rails = sorted({rail for rail, unit in values if unit == "A"} & {rail for rail, unit in values if unit == "V"})
    if not rails:
        return []
    watts = {rail: values[rail, "A"] * values[rail, "V"] for rail in rails}
    source = "vcgencmd pmic_read_adc"
    shown = [power(rail, watts[rail], "", source) for rail in ("VDD_CORE",) if rail in watts]
    return [power("pmic", sum(watts.values()), "", f"{source}, {len(rails)} rails"), *shown]


def ina3221_rails(root: Path) -> list[Measured]:
    """Each INA3221 rail by its label, volt times ampere; channels labelled NC are not connected.

    Source: NVIDIA Jetson Linux Developer Guide, "Platform Power and Performance"; in_input mV, curr_input mA.
    """
    measured = []
    for label in sorted(root.glob("sys/bus/i2c/drivers/ina3221*/*/hwmon/hwmon*/in[1-3]_label")):
        base, channel = label.parent.relative_to(root), label.name[2]
        name, _ = read(root, f"{base}/in{channel}_label")
        if not name or name == "NC":
            continue
        millivolts, no_voltage = number(root, f"{base}/in{channel}_input")
        milliamperes, no_current = number(root, f"{base}/curr{channel}_input")
        known = millivolts is not None and milliamperes is not None
        watts = millivolts * milliamperes / 1e6 if known else None  # type: ignore[operator]
        measured.append(power(name, watts, no_voltage or no_current, f"/{base}"))
    return measured


def jetson_gpu(root: Path) -> list[Measured]:
    """The integrated GPU's clock and load; its driver gives the load in tenths of a percent."""
    measured = []
    for folder in sorted(root.glob("sys/class/devfreq/*.g*")):
        base = folder.relative_to(root)
        if not re.fullmatch(r"[0-9a-f]+\.(gpu|g[av]1\w+)", folder.name):
            continue
        hertz, no_clock = number(root, f"{base}/cur_freq")
        load, no_load = number(root, f"{base}/device/load")
        mhz = None if hertz is None else hertz / 1e6
        percent = None if load is None else load / 10
        measured.append(Measured("gpu.clock", "MHz", mhz, no_clock or None, f"/{base}/cur_freq"))
        measured.append(Measured("gpu.load", "%", percent, no_load or None, f"/{base}/device/load"))
    return measured


def parse_nvpmodel(text: str) -> Fact:
    """The power mode from `nvpmodel -q`: the name, and the number below it."""
    found = re.search(r"NV Power Mode:[ \t]*(\S+)(?:\s+(\d+))?", text)
    if not found:
        return fact(None, "nvpmodel -q names no power mode")
    return fact(found[1] + (f" ({found[2]})" if found[2] else ""), "")


def parse_tegrastats(line: str) -> list[Measured]:
    """One line of tegrastats: RAM, swap, cores, GPU, memory controller, temperatures, rails (as they are now).

    Source: NVIDIA Jetson Linux Developer Guide, "Tegrastats Utility". What a plain user may not see is null.
    """
    source = "tegrastats"
    measured = []
    for name, label in (("ram.used", "RAM"), ("swap.used", "SWAP")):
        found = re.search(rf"\b{label} (\d+)/\d+MB", line)
        if found:
            measured.append(Measured(name, "MiB", float(found[1]), None, source))
    cores = re.search(r"\bCPU \[([^\]]*)\]", line)
    for i, core in enumerate(cores[1].split(",") if cores else ()):
        load = re.match(r"(\d+)%(?:@(\d+))?", core)
        off = None if load else f"core {i} is {core}"
        measured.append(Measured(f"core{i}.load", "%", float(load[1]) if load else None, off, source))
        mhz = float(load[2]) if load and load[2] else None
        hidden = None if mhz is not None else off or "tegrastats shows no clock to this user"
        measured.append(Measured(f"clock.cpu{i}", "MHz", mhz, hidden, source))
    for name, label in (("gpu.load", "GR3D_FREQ"), ("emc.load", "EMC_FREQ")):
        found = re.search(rf"\b{label} (?:(\d+)%)?", line)
        if found:
            reason = None if found[1] else f"tegrastats shows no {label} load"
            measured.append(Measured(name, "%", float(found[1]) if found[1] else None, reason, source))
    for name, degrees in re.findall(r"\b([A-Za-z]\w*)@(-?[\d.]+)C", line):
        measured.append(temperature(name, float(degrees), "", source))
    for name, milliwatts in re.findall(r"\b([A-Z]\w*) (\d+)mW/\d+mW", line):
        if name != "NC":
            measured.append(power(name, float(milliwatts) / 1e3, "", source))
    return measured


def parse_thermalservice(text: str) -> tuple[list[Measured], Throttle]:
    """From `dumpsys thermalservice`: temperatures as the hardware says them now, and Android's throttling status.

    The cached values before them are as old as the last change. A sensor that reads exactly 0.0 is not fitted.
    """
    source = "dumpsys thermalservice"
    current = text.partition("Current temperatures from HAL:")[2].partition("Current cooling devices")[0]
    measured = []
    for value, kind, name in re.findall(r"Temperature\{mValue=([-\d.]+|NaN), mType=(-?\d+), mName=([^,}]+)", current):
        if int(kind) not in ANDROID_TEMPERATURES:
            continue
        label = f"{ANDROID_TEMPERATURES[int(kind)]}.{name}"
        if value == "NaN" or float(value) == 0.0:
            measured.append(temperature(label, None, f"reads {value}: not fitted", source))
        else:
            measured.append(temperature(label, float(value), "", source))
    status = re.search(r"^Thermal Status: (\d)", text, re.MULTILINE)
    if not status or int(status[1]) >= len(ANDROID_STATUS):
        return measured, no_throttle_flags(f"{source} names no thermal status")
    now = () if status[1] == "0" else (f"thermal status {ANDROID_STATUS[int(status[1])]}",)
    return measured, Throttle(now=now, since_boot=None, source=source, reason=None)


def parse_battery(text: str) -> tuple[list[Measured], Fact]:
    """From `dumpsys battery`: temperature (tenths of a degree) and charge, and in words what feeds the phone.

    Only the first section counts: some makers print logs of old values below it.
    """
    source = "dumpsys battery"
    section = text.partition("[")[0]
    fields = dict(re.findall(r"^\s+([\w ]+): (.+?)\s*$", section, re.MULTILINE))
    measured = []
    if re.fullmatch(r"-?\d+", fields.get("temperature", "")):
        measured.append(temperature("battery", int(fields["temperature"]) / 10, "", source))
    if fields.get("level", "").isdigit() and int(fields.get("scale", "100") or 0) > 0:
        percent = 100.0 * int(fields["level"]) / int(fields.get("scale", "100"))
        measured.append(Measured("battery.level", "%", percent, None, source))
    if not fields:
        return measured, fact(None, f"{source} says nothing")
    feeds = [name for name in ("AC", "USB", "Wireless", "Dock") if fields.get(f"{name} powered") == "true"]
    level = f", {fields['level']} %" if "level" in fields else ""
    return measured, fact(("powered by " + "+".join(feeds) if feeds else "on battery") + level, "")
