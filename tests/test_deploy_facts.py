"""Facts are parsed strictly, boards are recognised, and each finding of the doctor has a line to copy."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from deploying import APP, install, local_device, make_bundle

from edgekit.devices import Facts, examine, read_facts, recognise
from edgekit.devices.address import parse_address
from edgekit.devices.doctor import line_for
from edgekit.devices.facts import parse_facts
from edgekit.errors import TransportError
from edgekit.targets import known_targets

BOOT = "5d934e7f-55f9-48fb-bede-6f2df905e103"
# As printed by the emulated Raspberry Pi 5 of the lab (Debian bookworm, arm64), CPU features cut short.
PI5 = f"""root /home/pi/.local/share/edgekit
uname Linux 6.6.51 aarch64
bits 64
libc GNU C Library (Debian GLIBC 2.36-9+deb12u13) stable release version 2.36.
python Python 3.11.2
also python3.11
tool python3
tool timeout
tool sync
tool sha256sum
disk /dev/mmcblk0p2 30344192 4096000 24678912  15% /
writable yes
ram 8257536 7000000
cores 4
cpu CPU implementer	: 0x41
cpu CPU part	: 0xd0b
cpu Features	: fp asimd evtstrm aes fphp asimdhp asimddp
board Raspberry Pi 5 Model B Rev 1.0
clock 1795397539 3183 {BOOT}
user 1000""".split("\n")


def change(key: str, *lines: str) -> list[str]:
    return [line for line in PI5 if not line.startswith(f"{key} ")] + list(lines)


def facts_of(lines: list[str]) -> Facts:
    return parse_facts(lines, "the device")


def test_a_pi_is_understood() -> None:
    facts = facts_of(PI5)
    assert (facts.machine, facts.bits, facts.libc, facts.python) == ("aarch64", 64, "glibc 2.36", "3.11.2")
    assert (facts.disk_free_bytes, facts.ram_total_bytes) == (24678912 * 1024, 8257536 * 1024)
    assert (facts.cpu_parts, facts.cpu_features[-1]) == (("0x41", "0xd0b"), "asimddp")
    assert (facts.board, facts.boot_id, facts.uptime_s) == ("Raspberry Pi 5 Model B Rev 1.0", BOOT, 3183)


@pytest.mark.parametrize(
    "line", [n for n, text in enumerate(PI5) if text.split()[0] not in ("also", "tool", "python", "board", "cpu")]
)
def test_a_missing_or_doubled_fact_is_a_transport_error(line: int) -> None:
    for lines in (PI5[:line] + PI5[line + 1 :], [*PI5, PI5[line]]):
        with pytest.raises(TransportError, match="cannot be understood"):
            facts_of(lines)


def test_garbage_is_never_facts() -> None:
    """2,000 replies with changed lines: understood or a transport error, nothing else."""
    pick = random.Random(9)
    for _ in range(2000):
        lines = list(PI5)
        for _ in range(pick.randint(1, 3)):
            at = pick.randrange(len(lines))
            lines[at] = pick.choice(
                ["", "x", lines[at][: pick.randrange(len(lines[at]) + 1)], lines[at] + " y", "\ufffd"]
            )
        with contextlib.suppress(TransportError):
            facts_of(lines)


def test_this_machine_describes_itself(tmp_path: Path) -> None:
    facts = read_facts(local_device(tmp_path / "d"))
    assert facts.root == str(tmp_path / "d")
    assert facts.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert facts.ram_total_bytes == int(Path("/proc/meminfo").read_text().split()[1]) * 1024


@pytest.mark.parametrize(
    ("board", "machine", "bits", "target"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0", "aarch64", 64, "raspberry-pi-5"),
        ("Raspberry Pi 4 Model B Rev 1.4", "aarch64", 64, "raspberry-pi-4"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "aarch64", 64, "raspberry-pi-3"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "aarch64", 64, "raspberry-pi-zero-2w"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "armv7l", 32, "raspberry-pi-zero-2w-32"),
        ("Raspberry Pi 4 Model B Rev 1.4", "aarch64", 32, "raspberry-pi-4-32"),
        ("NVIDIA Jetson Orin Nano Developer Kit", "aarch64", 64, "jetson-orin-nano"),
        ("Radxa ROCK 5B", "aarch64", 64, "linux-aarch64"),
        ("", "x86_64", 64, "linux-x86_64"),
    ],
)
def test_the_target_is_recognised(board: str, machine: str, bits: int, target: str) -> None:
    facts = facts_of(PI5).replace(board=board, machine=machine, bits=bits)
    found = recognise(facts, known_targets().values())
    assert found is not None
    assert found.name == target


def test_a_phone_is_recognised_and_an_unknown_machine_is_not() -> None:
    facts = facts_of(PI5)
    phone = recognise(facts.replace(abi="arm64-v8a", libc="bionic", board=""), known_targets().values())
    assert phone is not None
    assert phone.name == "android-arm64"
    assert recognise(facts.replace(machine="riscv64", board=""), known_targets().values()) is None


def test_a_healthy_device_has_no_findings() -> None:
    facts = facts_of(PI5)
    assert examine(facts, recognise(facts, known_targets().values()), now_s=facts.clock_s, name="pi") == ()


@pytest.mark.parametrize(
    ("lines", "level", "what", "fix"),
    [
        (change("python"), "problem", "no Python 3", "sudo apt-get install python3"),
        (change("python", "python Python 3.9.2"), "problem", "3.9.2 is older than 3.10", "sudo ln -s"),
        (change("writable", "writable no"), "problem", "cannot be written by user 1000", "sudo chown -R"),
        (change("tool", "tool python3", "tool sync"), "problem", "no sha256sum", "coreutils"),
        (change("disk", "disk /dev/root 1000 1 99999 1% /"), "advice", "97 MiB of disk are free", "apt-get clean"),
        (change("clock", f"clock 0 3183 {BOOT}"), "advice", "days behind", "set-ntp true"),
        (change("libc", "libc unknown"), "problem", "C library is unknown", "--wheel FILE"),
        (change("cpu", "cpu Features : fp asimd"), "advice", "lacks asimddp", "edgekit targets"),
        ([*PI5, "incoming abc"], "advice", "1 transfers are unfinished", "/incoming"),
        ([*PI5, "app x", "state x nonsense"], "problem", "state of x cannot be read", "--force"),
        (
            [*PI5, "app x", 'state x {"bad":[],"current":"' + "a" * 64 + '","previous":null}'],
            "problem",
            "is not there",
            "x",
        ),
    ],
)
def test_each_finding_has_a_fix(lines: list[str], level: str, what: str, fix: str) -> None:
    facts = facts_of(lines)
    found = examine(facts, recognise(facts, known_targets().values()), now_s=1795397539, name="pi")
    assert any(f.level == level and what in f.what and fix in f.fix for f in found), found


def test_a_fix_is_a_line_for_this_machine() -> None:
    """It is copied as it stands: what the device's shell is to run goes through ssh or adb, or names the device."""
    assert line_for(parse_address("pi@kitchen"))("sync && id") == "ssh -t pi@kitchen 'sync && id'"
    assert line_for(parse_address("ssh:pi@kitchen:2222"))("id") == "ssh -t -p 2222 pi@kitchen id"
    assert line_for(parse_address("adb:R58M12"))("rm x") == "adb -s R58M12 shell 'rm x'"
    assert line_for(parse_address("local:/tmp"))("rm x") == "rm x"
    facts = facts_of([*change("writable", "writable no"), "incoming abc"])
    found = examine(facts, None, now_s=facts.clock_s, name="pi", there=line_for(parse_address("pi@kitchen")))
    assert [f.fix for f in found if "edgekit targets" not in f.fix] == [
        f"ssh -t pi@kitchen 'sudo mkdir -p {facts.root} && sudo chown -R $(id -un) {facts.root}'",
        f"ssh -t pi@kitchen 'rm -rf {facts.root}/incoming'",
    ]


def test_an_app_whose_layer_is_gone_is_found(tmp_path: Path) -> None:
    install(tmp_path / "d", make_bundle(tmp_path, "1.0"))
    facts = read_facts(local_device(tmp_path / "d"))
    (app,) = facts.apps
    assert not [f for f in examine(facts, None, now_s=facts.clock_s, name="pi") if APP in f.what]
    (release,) = app.releases
    assert release.record is not None
    bare = release.replace(record=release.record.replace(layer="f" * 64))
    moved = app.replace(releases=(bare,))
    found = examine(facts.replace(apps=(moved,)), None, now_s=facts.clock_s, name="pi")
    (finding,) = [f for f in found if "layer that everything needs" in f.what]
    assert finding.fix == "edgekit deploy everything pi --app everything"
