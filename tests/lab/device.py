"""One virtual device: namespaces, a card, a real server as its first process, and its faults."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import boards, card, network
from .adb import AdbAccess, AdbServer
from .boards import Board
from .cgroup import MemoryLimit
from .host import LabError, read_command, run
from .network import Link
from .ssh import SshAccess

BOOT_DEADLINE_S = 60.0


@dataclass(frozen=True)
class DeviceSpec:
    """Everything that is decided before a device starts; sizes in bytes, None means no limit."""

    name: str
    arch: str
    cpu: str
    board: Board
    lower: Path
    user: str
    server: tuple[str, ...]
    port: int
    environ: Mapping[str, str]
    hostname: str
    card_bytes: int
    ram_bytes: int
    memory_limit_bytes: int | None


# Runs in new mount, PID, UTS and IPC namespaces, with the host's tools, until `chroot`.
# The first line learns this shell's process id outside: /proc is still the host's.
_BOOT = """
set -eu
read -r outer rest < /proc/self/stat
echo "$outer" > "$STATE/pid.new"
mv "$STATE/pid.new" "$STATE/pid"
for limit in $CGROUPS; do echo 0 > "$limit/cgroup.procs"; done
mount -o loop,errors=remount-ro,noinit_itable "$STATE/card.ext4" "$STATE/card"
mkdir -p "$STATE/card/upper" "$STATE/card/work"
mount -t overlay -o "lowerdir=$LOWER,upperdir=$STATE/card/upper,workdir=$STATE/card/work" \
  edgelab "$STATE/root"
cd "$STATE/root"
if [ ! -e etc/edgelab ]; then
  cp -a "$STATE/seed/." .
  : > etc/edgelab
  sync -f "$STATE/card"
fi
mount -t proc proc proc
mount --bind "$STATE/sys" sys
mount -o remount,bind,ro sys
[ ! -e "$STATE/cpuinfo" ] || mount --bind "$STATE/cpuinfo" proc/cpuinfo
mount --bind "$STATE/meminfo" proc/meminfo
mount -t tmpfs -o mode=755,size=1m edgelab dev
for node in null zero full random urandom tty; do
  : > dev/$node
  mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 edgelab dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755,size=16m edgelab run
mkdir run/sshd
hostname "$NAME"
exec "$@"
"""


class Device:
    """A running device; it keeps its card from one boot to the next and loses it on close."""

    def __init__(self, spec: DeviceSpec, state: Path, link: Link, access: SshAccess | AdbAccess) -> None:
        self.spec = spec
        self.link = link
        self._state = state
        self.access = access
        self._process: subprocess.Popen[bytes] | None = None
        self._memory: MemoryLimit | None = None
        self._prepare()

    def _prepare(self) -> None:
        for folder in ("card", "root", "sys", "seed"):
            (self._state / folder).mkdir(parents=True, exist_ok=True)
        core = boards.core_of(self.spec.board, self.spec.arch, self.spec.cpu)
        boards.write_sys(self.spec.board, core, self._state / "sys")
        if core:
            (self._state / "cpuinfo").write_text(boards.cpuinfo(self.spec.board, core))
        (self._state / "meminfo").write_text(boards.meminfo(self.spec.ram_bytes))
        etc = self._state / "seed/etc"
        etc.mkdir(exist_ok=True)
        (etc / "hostname").write_text(f"{self.spec.hostname}\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.spec.hostname}\n")
        card.create(self._state / "card.ext4", self.spec.card_bytes)
        if self.spec.memory_limit_bytes is not None:
            self._memory = MemoryLimit(self.spec.name, self.spec.memory_limit_bytes)

    @property
    def address(self) -> str:
        return self.link.address

    @property
    def ssh_config(self) -> Path:
        """The file for `ssh -F`; the host's name in it is `host`."""
        return self.ssh.config

    @property
    def host(self) -> str:
        """The device's name in its ssh configuration."""
        return self.ssh.alias

    @property
    def ssh(self) -> SshAccess:
        if not isinstance(self.access, SshAccess):
            raise LabError(f"{self.spec.name} has no ssh")
        return self.access

    @property
    def serial(self) -> str:
        """The device's name for `adb -s`, in the environment of `adb.environ`."""
        return self._adb_access.serial

    @property
    def adb(self) -> AdbServer:
        return self._adb_access.server

    @property
    def _adb_access(self) -> AdbAccess:
        if not isinstance(self.access, AdbAccess):
            raise LabError(f"{self.spec.name} has no adb")
        return self.access

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the device's server and its boot said on their standard error."""
        path = self._state / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def root(self) -> Path:
        """The running device's file system, seen from this machine (as root, past its server)."""
        return Path(f"/proc/{self._init_pid()}/root")

    @property
    def sys(self) -> Path:
        """The tree behind the device's /sys: what is written here, its sensors say next."""
        return self._state / "sys"

    @property
    def processes(self) -> list[int]:
        """Every process of the device, by its id on this machine."""
        return [int(pid) for pid in read_command(["ip", "netns", "pids", self.spec.name])]

    def run(self, command: str, *, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a shell command the way a user's client would; its exit code is not checked."""
        return self.access.run(command, timeout_s=timeout_s)

    def boot(self) -> None:
        """Start the device on its card and wait until its server answers."""
        if self.is_running:
            raise LabError(f"{self.spec.name} is running")
        image = self._state / "card.ext4"
        card.wait_detached(image)
        card.repair(image)
        network.restore(self.link)
        (self._state / "pid").unlink(missing_ok=True)
        self._process = self._start()
        self._wait_ready()
        self.access.connect()

    def _start(self) -> subprocess.Popen[bytes]:
        spec = self.spec
        environ = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "EDGELAB_STATE": str(self._state.parent),
            "STATE": str(self._state),
            "LOWER": str(spec.lower),
            "NAME": spec.hostname,
            "CGROUPS": " ".join(self._memory.folders) if self._memory else "",
        }
        inside = [f"{name}={value}" for name, value in spec.environ.items()]
        # `env -i` looks its program up in the device's PATH, so the path is given in full.
        chroot = shutil.which("chroot") or "/usr/sbin/chroot"
        enter = [chroot, f"--userspec={spec.user}", "--groups=", str(self._state / "root")]
        server = ["env", "-i", *inside, *enter, *spec.server]
        namespaces = ["unshare", "-m", "-p", "-f", "-u", "-i", "--kill-child"]
        enter_network = ["nsenter", f"--net=/run/netns/{spec.name}"]
        with (self._state / "log").open("ab") as log:
            return subprocess.Popen(
                [*enter_network, *namespaces, "sh", "-c", _BOOT, "boot", *server],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal is for the tests, which then close the device.
                start_new_session=True,
            )

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + BOOT_DEADLINE_S
        while not self._answers():
            if not self.is_running:
                raise LabError(f"{self.spec.name} did not boot: {self.log[-2000:]}")
            if time.monotonic() > deadline:
                raise LabError(f"{self.spec.name} is silent after {BOOT_DEADLINE_S} s: {self.log}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            socket.create_connection((self.address, self.spec.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _init_pid(self) -> int:
        path = self._state / "pid"
        if not self.is_running or not path.exists():
            raise LabError(f"{self.spec.name} is not running")
        return int(path.read_text())

    def kill(self) -> None:
        """Kill every process at once: peers see a reset, the card keeps what was written."""
        if self._process is None:
            return
        path = self._state / "pid"
        if self._process.poll() is None and path.exists():
            os.kill(int(path.read_text()), signal.SIGKILL)
        elif self._process.poll() is None:
            self._process.kill()
        self._process.wait(timeout=20)
        self._process = None
        card.wait_detached(self._state / "card.ext4")

    def power_cut(self) -> None:
        """Pull the plug: silent on the network, and what was not synced is lost from the card."""
        network.cut(self.link)
        card.stop_without_flush(self._init_pid(), self._state / "card")
        self.kill()

    def cut_link(self) -> None:
        """From now on every packet vanishes; nobody is told."""
        network.cut(self.link)

    def restore_link(self) -> None:
        network.restore(self.link)

    def cap_bandwidth(self, mbit_per_s: float) -> None:
        network.cap(self.link, mbit_per_s)

    def uncap_bandwidth(self) -> None:
        network.uncap(self.link)

    def free_bytes(self) -> int:
        return card.free_bytes(self.root)

    def fill_disk(self, leave_bytes: int) -> None:
        """Fill the card; about `leave_bytes` stay free, then writes fail with ENOSPC."""
        card.fill(self.root, leave_bytes)

    def free_disk(self) -> None:
        card.free(self.root)

    def remount_readonly(self) -> None:
        """Make the root file system read-only; refused while a file is open for writing."""
        self._remount("ro")

    def remount_writable(self) -> None:
        self._remount("rw")

    def _remount(self, mode: str) -> None:
        inside = ("nsenter", "-t", str(self._init_pid()), "-m")
        run(*inside, "mount", "-o", f"remount,{mode}", self._state / "root")

    def fail_card(self) -> None:
        """Let ext4 meet an error: the card turns read-only even under open files, until boot."""
        card.report_error(self._state / "card.ext4")

    def oom_kills(self) -> int:
        """How many processes the memory limit has killed since the device was made."""
        return self._memory.oom_kills() if self._memory else 0

    def close(self) -> None:
        """Remove the device and everything it wrote."""
        self.kill()
        network.disconnect(self.spec.name)
        network.wait_gone(self.link)
        if self._memory:
            self._memory.close()
        shutil.rmtree(self._state, ignore_errors=True)
