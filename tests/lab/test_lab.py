"""The lab itself: what it says of its devices and of their faults is true."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from . import binfmt, boards, cgroup, host, rootfs, teardown
from .adb import AdbServer
from .device import Device
from .fake_adbd import FakeAdbd
from .lab import Lab

MIB = 2**20
# Generous: these machines are shared. What must be quick is checked by nobody here.
DEADLINE_S = 90.0
QUICK_DEATH = ("-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=3")
LAB_PARENT = Path(__file__).resolve().parent.parent


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    """20 MiB that no link compresses and no file system keeps sparse."""
    path = tmp_path / "blob"
    path.write_bytes(os.urandom(20 * MIB))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_S} s"
        time.sleep(0.02)


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def start_scp(device: Device, source: Path, target: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*device.ssh.argv("scp"), *QUICK_DEATH, str(source), f"{device.host}:{target}"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def scp(device: Device, source: Path, target: str) -> subprocess.CompletedProcess[str]:
    argv = [*device.ssh.argv("scp"), str(source), f"{device.host}:{target}"]
    return host.run(*argv, check=False, timeout_s=DEADLINE_S)


# Devices by ssh


@pytest.fixture(params=["amd64", pytest.param("arm64", marks=pytest.mark.lab_emulated)])
def ssh_device(request: pytest.FixtureRequest, new_device: Callable[..., Device]) -> Device:
    return new_device(request.param, hostname="edge")


def test_a_device_boots_to_ssh_and_passes_exit_codes_through(ssh_device: Device) -> None:
    """A command's output, errors and exit code come back as from a real device."""
    done = ssh_device.run("uname -m; echo wrong >&2; exit 7")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[ssh_device.spec.arch]
    assert (done.stdout, done.stderr, done.returncode) == (f"{machine}\n", "wrong\n", 7)
    assert ssh_device.run("id -un; uname -n").stdout == "pi\nedge\n"


def test_a_device_has_python_and_nothing_that_a_deployment_may_not_need(
    ssh_device: Device,
) -> None:
    """A 64-bit device has sh, coreutils and python3: no pip, no numpy, no tar, no grep."""
    absent = "pip pip3 tar grep sed rsync perl bash scp curl find awk gzip"
    assert ssh_device.run(f"for name in {absent}; do command -v $name; done").stdout == ""
    code = (
        "import importlib.util, ssl, sqlite3, ctypes, zipfile;"
        'print([importlib.util.find_spec(name) for name in (\\"pip\\", \\"numpy\\")])'
    )
    done = ssh_device.run(f'python3 -c "{code}"')
    assert done.stdout == "[None, None]\n", done.stderr


def test_a_device_reaches_nothing_but_this_machine(amd64_device: Device) -> None:
    """There is no route and no name server: what needs the internet fails at once."""
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"
    assert "Network is unreachable" in amd64_device.run(f'python3 -c "{code}"').stderr


def test_a_file_arrives_unchanged(ssh_device: Device, blob: Path) -> None:
    """scp through the real sftp-server keeps every byte."""
    assert scp(ssh_device, blob, "copy").returncode == 0
    assert ssh_device.run("sha256sum copy").stdout.split()[0] == sha256(blob)
    assert sha256(ssh_device.root / "home/pi/copy") == sha256(blob)


def test_an_unknown_and_a_changed_host_key_are_refused(
    lab: Lab, new_device: Callable[..., Device], tmp_path: Path
) -> None:
    """The client meets a real host key: unknown or another's, it refuses (255)."""
    device, other = new_device(), new_device()
    wrong_key = other.ssh_config.with_suffix(".known_hosts").read_text().split(" ", 1)[1]
    for known in ("", f"{device.address} {wrong_key}"):
        config = tmp_path / "config"
        lab.write_ssh_config(config, alias="x", address=device.address, known_hosts=known)
        strict = ("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes")
        done = host.run("ssh", "-F", config, *strict, "x", "true", check=False)
        assert done.returncode == 255
        assert "Host key verification failed" in done.stderr


def test_several_devices_have_their_own_addresses_and_cards(
    lab: Lab, new_device: Callable[..., Device], tmp_path: Path
) -> None:
    """A fleet is one configuration file; what one device writes, another does not see."""
    fleet = [new_device() for _ in range(3)]
    assert len({device.address for device in fleet}) == 3
    config = lab.ssh_config(tmp_path / "config")
    for device in fleet:
        done = host.run("ssh", "-F", config, device.host, f"echo {device.host} >> name; cat name")
        assert done.stdout == f"{device.host}\n"


# Boards


@pytest.mark.lab_emulated
@pytest.mark.parametrize("board", ["pi5", "pi4", "pi3", "zero2w"])
def test_a_board_shows_its_own_identity(new_device: Callable[..., Device], board: str) -> None:
    """Device tree, CPU, memory and sensors are the board's, never this machine's."""
    expected = boards.BOARDS[board]
    device = new_device("arm64", board=board)
    said = device.run(
        "cat /sys/firmware/devicetree/base/model; echo; cat /sys/devices/system/cpu/possible;"
        "cat /sys/class/thermal/thermal_zone0/type; head -n 1 /proc/meminfo; cat /proc/cpuinfo"
    ).stdout
    model, cpus, zone, memory, *cpuinfo = said.splitlines()
    assert model == f"{expected.model}\0"
    assert (cpus, zone) == ("0-3", "cpu-thermal")
    assert int(memory.split()[1]) == expected.ram_bytes // 1024
    part = boards.CORES[expected.core].midr >> 4 & 0xFFF
    assert cpuinfo.count(f"CPU part\t: 0x{part:03x}") == 4
    assert device.run(f"echo $QEMU_CPU; cat /sys/{boards.THROTTLED_FILE}").stdout == (f"{expected.core}\n0\n")


def test_the_hosts_sys_is_never_mounted(ssh_device: Device) -> None:
    """/sys is the lab's own tree, read-only, and a test can change what its sensors say."""
    mounts = ssh_device.run("cat /proc/mounts").stdout
    assert not [line for line in mounts.splitlines() if line.split()[2] == "sysfs"]
    assert ssh_device.run("touch /sys/x").returncode != 0
    (ssh_device.sys / "class/thermal/thermal_zone0/temp").write_text("81200\n")
    assert ssh_device.run("cat /sys/class/thermal/thermal_zone0/temp").stdout == "81200\n"


@pytest.mark.lab_emulated
def test_a_32_bit_device_has_debians_numpy(zero2w_32: Device) -> None:
    """armhf boots as armv7l, with the compiled packages that the index has no wheels of."""
    assert zero2w_32.run("uname -m").stdout == "armv7l\n"
    code = "import numpy, PIL, soundfile, click;print(numpy.__version__, (numpy.eye(3) @ numpy.ones(3)).sum())"
    done = zero2w_32.run(f"python3 -c '{code}'")
    assert done.stdout == "1.24.2 3.0\n", done.stderr


@pytest.mark.lab_emulated
def test_a_trixie_device_has_the_newer_python(new_device: Callable[..., Device]) -> None:
    """Raspberry Pi OS of 2025 is Debian trixie with Python 3.13."""
    done = new_device("arm64", suite="trixie", board="pi5").run("python3 -V")
    assert done.stdout.startswith("Python 3.13"), done.stderr


# Faults


def test_a_cut_link_ends_a_copy_with_an_error_and_a_partial_file(amd64_device: Device, blob: Path) -> None:
    """Nobody is told of the cut; the client's own deadline ends the copy, the rest stays."""
    device = amd64_device
    partial = device.root / "home/pi/partial"
    device.cap_bandwidth(20)
    copy = start_scp(device, blob, "partial")
    wait_until(lambda: size_of(partial) > 0, "the first bytes")
    device.cut_link()
    _, said = copy.communicate(timeout=DEADLINE_S)
    assert copy.returncode != 0, said
    assert 0 < size_of(partial) < blob.stat().st_size
    device.restore_link()
    device.uncap_bandwidth()
    assert device.run("true").returncode == 0


def test_a_killed_device_boots_again_with_the_partial_file(amd64_device: Device, blob: Path) -> None:
    """`kill` ends the copy at once and keeps the card; `boot` brings the same device back."""
    device = amd64_device
    partial = device.root / "home/pi/partial"
    device.cap_bandwidth(20)
    copy = start_scp(device, blob, "partial")
    wait_until(lambda: size_of(partial) > 0, "the first bytes")
    device.kill()
    copy.communicate(timeout=DEADLINE_S)
    assert copy.returncode != 0
    assert "refused" in device.run("true").stderr
    device.uncap_bandwidth()
    device.boot()
    assert 0 < int(device.run("stat -c %s partial").stdout) < blob.stat().st_size


def test_a_power_cut_loses_what_was_not_synced(amd64_device: Device) -> None:
    """After `power_cut` a synced file is whole and a file just written is not."""
    device = amd64_device
    device.run("seq 100000 > synced; sync synced; sync .; seq 100000 > unsynced")
    whole = size_of(device.root / "home/pi/unsynced")
    assert whole == size_of(device.root / "home/pi/synced") == 588895
    device.power_cut()
    device.boot()
    assert size_of(device.root / "home/pi/synced") == whole
    assert size_of(device.root / "home/pi/unsynced") < whole


def test_a_full_card_refuses_writes(amd64_device: Device, blob: Path) -> None:
    """ENOSPC comes from a real file system; freeing the space makes the same write work."""
    device = amd64_device
    device.fill_disk(leave_bytes=MIB)
    assert 0 <= device.free_bytes() <= 2 * MIB
    assert "No space left on device" in device.run("head -c 5000000 /dev/zero > big").stderr
    assert scp(device, blob, "copy").returncode != 0
    device.free_disk()
    assert scp(device, blob, "copy").returncode == 0


def test_a_small_card_is_small(new_device: Callable[..., Device]) -> None:
    """The card has the size that was asked for."""
    assert new_device(card_bytes=64 * MIB).free_bytes() < 64 * MIB


def test_a_read_only_card_refuses_writes(amd64_device: Device) -> None:
    """EROFS comes from a real mount, and ends with `remount_writable`."""
    device = amd64_device
    device.remount_readonly()
    assert "Read-only file system" in device.run("touch x").stderr
    device.remount_writable()
    assert device.run("touch x").returncode == 0


def test_a_failing_card_turns_read_only_under_an_open_file(amd64_device: Device) -> None:
    """As on a worn card: ext4 meets an error, a writer in its midst gets EROFS, boot repairs."""
    device = amd64_device
    device.run("echo kept > before; sync before; sync .")
    writer = (
        "import os, time\n"
        "file = open('x', 'wb', buffering=0)\n"
        "while True: file.write(bytes(4096)); os.fsync(file.fileno()); time.sleep(0.01)"
    )
    with subprocess.Popen(
        [*device.ssh.argv(), device.host, f'python3 -c "{writer}"'],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(lambda: size_of(device.root / "home/pi/x") > 0, "the writer")
        device.fail_card()
        _, said = process.communicate(timeout=DEADLINE_S)
    assert "Read-only file system" in said or "Input/output error" in said
    assert device.run("touch y").returncode != 0
    device.kill()
    device.boot()
    assert device.run("touch y; cat before").stdout == "kept\n"


def test_a_memory_limit_kills_the_process_and_not_the_device(
    new_device: Callable[..., Device],
) -> None:
    """A process beyond the limit is killed by the kernel (137); the device goes on."""
    device = new_device(memory_limit_bytes=96 * MIB)
    done = device.run('sh -c \'python3 -c "x = b\\"1\\" * 200_000_000"\'')
    assert done.returncode == 137
    assert device.oom_kills() >= 1
    assert device.run("echo alive").stdout == "alive\n"


# Devices by adb, the real one


def test_real_adb_runs_commands_and_moves_files(android: Device, blob: Path, tmp_path: Path) -> None:
    """adb and adbd are the real ones: exit codes, user, properties, push, pull, permissions."""
    adb = android.adb
    done = android.run("echo out; echo wrong >&2; id -un; getprop ro.product.cpu.abi; exit 4")
    assert (done.stdout, done.returncode) == ("out\nshell\nx86_64\n", 4)
    assert done.stderr == "wrong\n"
    target = "/data/local/tmp/deep/blob"
    assert adb.run("-s", android.serial, "push", str(blob), target).returncode == 0
    assert android.run(f"sha256sum {target}").stdout.split()[0] == sha256(blob)
    back = tmp_path / "back"
    assert adb.run("-s", android.serial, "pull", target, str(back)).returncode == 0
    assert sha256(back) == sha256(blob)
    refused = adb.run("-s", android.serial, "push", str(blob), "/system/blob")
    assert refused.returncode == 1
    assert "Permission denied" in refused.stdout + refused.stderr


def test_android_has_its_own_tools_only(android: Device) -> None:
    """The shell is mksh, the tools are toybox, and there is no Python."""
    assert "MIRBSD" in android.run("echo $KSH_VERSION").stdout
    assert android.run("command -v python3").returncode != 0
    assert android.run("command -v sha256sum").stdout == "/system/bin/sha256sum\n"


def test_real_adb_on_a_killed_and_a_full_device(android: Device, blob: Path) -> None:
    """A killed device is offline until it boots; a full one fails the push."""
    android.kill()
    wait_until(lambda: android.adb.state(android.serial) != "device", "the loss")
    android.boot()
    android.fill_disk(leave_bytes=MIB)
    target = "/data/local/tmp/blob"
    done = android.adb.run("-s", android.serial, "push", str(blob), target)
    assert done.returncode == 1
    assert "No space left on device" in done.stdout + done.stderr


@pytest.mark.parametrize("client", ["system", "34"])
@pytest.mark.lab_emulated
def test_both_adb_clients_reach_an_arm_device(lab: Lab, adb_server: AdbServer, client: str) -> None:
    """Debian's adb 29 and 34 each talk, by a server of their own, to an emulated adbd."""
    device = lab.android("arm64", cpu="cortex-a76", board="pi5", client=client)
    try:
        assert device.run("uname -m; exit 3").stdout == "aarch64\n"
        assert device.adb.port != 5037
    finally:
        lab.remove(device)


# Devices by adb, the stand-in


def test_the_stand_in_is_a_device_to_the_real_client(
    fake_adbd: Callable[..., FakeAdbd], adb_server: AdbServer, blob: Path, tmp_path: Path
) -> None:
    """Without a fault it connects, runs commands with exit codes, and keeps files whole."""
    device = fake_adbd()
    adb_server.connect(device.serial)
    done = adb_server.run("-s", device.serial, "shell", "echo out; echo wrong >&2; exit 4")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "wrong\n", 4)
    assert adb_server.run("-s", device.serial, "push", str(blob), "/data/b").returncode == 0
    assert sha256(device.root / "data/b") == sha256(blob)
    back = tmp_path / "back"
    assert adb_server.run("-s", device.serial, "pull", "/data/b", str(back)).returncode == 0
    assert sha256(back) == sha256(blob)


@pytest.mark.parametrize("state", ["unauthorized", "offline"])
def test_the_stand_in_shows_states_that_adbd_cannot(
    fake_adbd: Callable[..., FakeAdbd], adb_server: AdbServer, state: str
) -> None:
    """An unconfirmed key and a mute device look to the client as they do on a phone."""
    device = fake_adbd(**{state: True})
    adb_server.connect(device.serial, wanted=state)
    done = adb_server.run("-s", device.serial, "shell", "true")
    assert done.returncode == 1
    assert state in done.stderr


def test_the_stand_in_is_full(fake_adbd: Callable[..., FakeAdbd], adb_server: AdbServer, blob: Path) -> None:
    """The push fails with the message of a full disk."""
    device = fake_adbd(full=True)
    adb_server.connect(device.serial)
    done = adb_server.run("-s", device.serial, "push", str(blob), "/data/b")
    assert done.returncode == 1
    assert "No space left on device" in done.stdout + done.stderr
    assert not (device.root / "data/b").exists()


def test_the_stand_in_stalls_drops_and_lies(
    fake_adbd: Callable[..., FakeAdbd], adb_server: AdbServer, blob: Path
) -> None:
    """A stall outlasts any deadline, a drop fails the push, garbage comes with exit code 0."""
    stalled = fake_adbd(stall_after_bytes=MIB)
    adb_server.connect(stalled.serial)
    with pytest.raises(host.LabError, match="no answer within 3 s"):
        adb_server.run("-s", stalled.serial, "push", str(blob), "/data/b", timeout_s=3)
    dropped = fake_adbd(drop_after_bytes=MIB)
    adb_server.connect(dropped.serial)
    assert adb_server.run("-s", dropped.serial, "push", str(blob), "/data/b").returncode != 0
    lying = fake_adbd(garbage=b"\xff\x00{")
    adb_server.connect(lying.serial)
    done = adb_server.run("-s", lying.serial, "shell", "echo fine")
    assert done.returncode == 0
    assert done.stdout != "fine\n"


# The lab's own end


@pytest.fixture
def other_process(lab: Lab, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Runs a script that has a lab of its own with one device, until it prints "ready"."""
    started: list[subprocess.Popen[str]] = []

    def start(end: str) -> subprocess.Popen[str]:
        script = tmp_path / "script.py"
        script.write_text(
            textwrap.dedent(
                f"""
                import signal, sys, time
                signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C
                sys.path.insert(0, {str(LAB_PARENT)!r})
                from lab import Lab
                with Lab() as lab:
                    device = lab.device("amd64", memory_limit_bytes=256 * 2**20)
                    lab.adb_server()
                    print(device.spec.name, lab.folder, flush=True)
                    {end}
                """
            )
        )
        process = subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def traces_of(name: str, folder: Path) -> list[str]:
    """What is left of a device of another process, by every name that it could have."""
    left = [line for line in host.read_command(["ip", "netns", "list"]) if name in line]
    left += [line for line in host.read_command(["losetup", "-a"]) if str(folder) in line]
    left += [str(group) for group in cgroup.leftovers() if group.name == name]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"EDGELAB_STATE={folder}".encode() in (process / "environ").read_bytes():
                left.append(str(process))
        except OSError:
            continue
    return left + [str(path) for path in [folder] if path.exists()]


def read_start(process: subprocess.Popen[str]) -> tuple[str, Path]:
    assert process.stdout is not None
    name, folder = process.stdout.readline().split()
    return name, Path(folder)


@pytest.mark.parametrize("end", ["raise RuntimeError", "time.sleep(600)"])
def test_an_exception_and_ctrl_c_leave_nothing(other_process: Callable[[str], subprocess.Popen[str]], end: str) -> None:
    """Leaving the block by an error or by Ctrl-C removes what the lab made."""
    process = other_process(end)
    name, folder = read_start(process)
    if "sleep" in end:
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=DEADLINE_S) != 0
    wait_until(lambda: not traces_of(name, folder), "the end of all traces")


def test_what_a_killed_process_leaves_is_removed_and_nothing_else(
    lab: Lab, amd64_device: Device, other_process: Callable[[str], subprocess.Popen[str]]
) -> None:
    """kill -9 leaves a running device; the next lab removes it and spares the living one."""
    process = other_process("time.sleep(600)")
    name, folder = read_start(process)
    process.kill()
    process.wait()
    assert traces_of(name, folder)
    teardown.remove_leftovers()
    wait_until(lambda: not traces_of(name, folder), "the end of all traces")
    assert amd64_device.run("echo alive").stdout == "alive\n"


def test_packets_for_a_removed_device_do_not_leave_this_machine(lab: Lab, new_device: Callable[..., Device]) -> None:
    """The guard route answers for every address of the lab's that no device has."""
    address = "198.19.255.254"
    done = host.run("ip", "route", "get", address, check=False)
    assert done.returncode != 0
    assert "No route to host" in done.stderr


def test_handlers_are_ours(lab: Lab) -> None:
    """What is registered under our prefix is what the lab removes; nothing else is listed."""
    assert set(binfmt.registered()) <= {handler.name for handler in binfmt.HANDLERS.values()}


def test_the_key_of_a_root_covers_what_goes_into_it() -> None:
    """Another suite, architecture, package or mirror is another root file system."""
    first = rootfs.SSH_ROOTS["arm64", "bookworm"]
    others = [
        rootfs.RootSpec(first.role, "armhf", first.suite, first.packages),
        rootfs.RootSpec(first.role, first.arch, "trixie", first.packages),
        rootfs.RootSpec(first.role, first.arch, first.suite, first.packages[1:]),
        rootfs.RootSpec("tool", first.arch, first.suite, first.packages),
    ]
    assert len({first.key, *(other.key for other in others)}) == 5
