"""A whole emulated machine: its own kernel, systemd, 512 MB of real RAM, reboots and power cuts.

Slower than a device (a boot takes tens of seconds), and the only place for what needs a kernel or
an init of its own: services, reboots, memory pressure, clock changes, delay and loss on the link.
"""

from __future__ import annotations

import atexit
import fcntl
import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from . import rootfs, ssh, teardown
from .adb import free_port
from .host import LabError, owner_tag, run
from .ssh import SshAccess

BOOT_DEADLINE_S = 600.0
_DISK_SIZE = "3G"
_MODEL = "Raspberry Pi 4 Model B Rev 1.4"

# What Debian's kernel needs before the disk can be mounted, and what tests of the link use.
# crc32c_generic: ext4 asks for it by its purpose, which modules.dep does not tell.
_MODULES = (
    *("virtio_mmio", "virtio_blk", "virtio_net", "crc32c_generic", "ext4"),
    *("sch_netem", "sch_tbf"),
)
_INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t devtmpfs dev /dev
for module in $($B cat /modules/order); do $B insmod /modules/$module; done
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 100 ]; do $B sleep 0.1; tries=$((tries + 1)); done
$B mount -t ext4 -o errors=remount-ro /dev/vda /sysroot
$B mount --move /dev /sysroot/dev
exec $B switch_root /sysroot ${edgelab_init:-/lib/systemd/systemd}
"""

# The kernel gives words of its command line that it does not know to the first process, as its environment.
SYSTEMD = "/lib/systemd/systemd"
SSHD_ONLY = "/etc/edgelab-init"
_SSHD_ONLY = f"""#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts && mount -t devpts pts /dev/pts
mount -t tmpfs run /run && mkdir /run/sshd
echo edgelab > /proc/sys/kernel/hostname
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
exec {" ".join(ssh.SERVER[:3])}
"""


@dataclass(frozen=True)
class VmFiles:
    """What a start needs: read-only, shared by every machine."""

    kernel: Path
    initrd: Path
    disk: Path


def vm_files() -> VmFiles:
    """The kernel, first steps and disk, built now if this machine has none yet."""
    kernel_root = rootfs.root_path(rootfs.VM_KERNEL)
    system_root = rootfs.root_path(rootfs.VM_SYSTEM)
    kernel = next((kernel_root / "boot").glob("vmlinuz-*"))
    recipe = f"{kernel_root.name} {system_root.name}".encode() + Path(__file__).read_bytes()
    folder = rootfs.cache_folder() / f"vm-{hashlib.sha256(recipe).hexdigest()[:20]}"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            building = folder.with_suffix(".building")
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            _build_initrd(kernel_root, building)
            options = ("-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1")
            disk = building / "disk.ext4"
            run("mke2fs", "-q", "-F", *options, "-d", system_root, disk, _DISK_SIZE, timeout_s=300)
            building.rename(folder)
    return VmFiles(kernel, folder / "initrd.gz", folder / "disk.ext4")


def _module_paths(modules: Path) -> list[Path]:
    """The files of _MODULES and of what they depend on, in an order that loads (modules.dep(5))."""
    needs: dict[str, list[str]] = {}
    path_of: dict[str, str] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
        path_of[Path(path).name.partition(".")[0].replace("-", "_")] = path
    built_in = (modules / "modules.builtin").read_text()
    ordered: list[str] = []
    for name in _MODULES:
        if f"/{name}.ko" in built_in:
            continue
        path = path_of[name]
        # The last dependency listed is the first to load.
        ordered += [each for each in [*reversed(needs[path]), path] if each not in ordered]
    return [modules / path for path in ordered]


def _build_initrd(kernel_root: Path, target: Path) -> None:
    tree = target / "initrd"
    for folder in ("bin", "dev", "sysroot", "modules"):
        (tree / folder).mkdir(parents=True)
    shutil.copy2(kernel_root / "usr/bin/busybox", tree / "bin/busybox")
    paths = _module_paths(next((kernel_root / "usr/lib/modules").iterdir()))
    for path in paths:
        shutil.copy2(path, tree / "modules" / path.name)
    (tree / "modules/order").write_text(" ".join(path.name for path in paths))
    (tree / "init").write_text(_INIT)
    (tree / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    packed = subprocess.run(
        ["cpio", "--quiet", "-o", "-H", "newc", "-D", str(tree)],
        input=names.encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    (target / "initrd.gz").write_bytes(gzip.compress(packed.stdout))
    shutil.rmtree(tree)


class Vm:
    """One machine with a disk of its own, reached by ssh on a port of the loopback interface."""

    def __init__(self, *, cpu: str = "cortex-a72", memory_mib: int = 512) -> None:
        self._files = vm_files()
        self._pid = os.getpid()
        tag = f"{teardown.NAME_PREFIX}{owner_tag()}-"
        self.folder = Path(tempfile.mkdtemp(prefix=tag))
        atexit.register(self.close)
        self._options = ("-M", "virt", "-cpu", cpu, "-smp", "2", "-m", str(memory_mib))
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._disk = self.folder / "disk.ext4"
        run("cp", "--sparse=always", "--reflink=auto", self._files.disk, self._disk)
        self._write_device_tree()
        self.ssh = self._write_access()

    def _write_device_tree(self) -> None:
        """QEMU's own tree with the board's model in it; the kernel then shows it in /proc."""
        tree = self.folder / "virt.dtb"
        machine = (f"virt,dumpdtb={tree}", *self._options[2:])
        run("qemu-system-aarch64", "-M", *machine, "-nic", "none", "-display", "none")
        run("fdtput", "-t", "s", tree, "/", "model", _MODEL)

    def _write_access(self) -> SshAccess:
        """Keys and server settings go into the disk before its first start."""
        key = self.folder / "id"
        public = ssh.make_key(key)
        seed = self.folder / "seed"
        kind, host_key = ssh.write_server_files(seed, public, {}).split()[:2]
        # A session with PAM, so that systemd knows the user (systemctl --user).
        server = (seed / "etc/ssh/edgelab").read_text().replace("UsePAM no", "UsePAM yes")
        (seed / "etc/ssh/edgelab").write_text(server)
        (seed / "edgelab-init").write_text(_SSHD_ONLY)
        commands = [
            *_debugfs_put(seed / "etc/ssh/edgelab", "/etc/ssh/sshd_config", 0o100644, 0),
            *_debugfs_put(seed / "etc/ssh/edgelab_host_key", "/etc/ssh/edgelab_host_key", 0o100600, 0),
            *_debugfs_put(seed / "edgelab-init", SSHD_ONLY, 0o100755, 0),
            "mkdir /home/pi/.ssh",
            "sif /home/pi/.ssh mode 040700",
            "sif /home/pi/.ssh uid 1000",
            "sif /home/pi/.ssh gid 1000",
            *_debugfs_put(
                seed / "home/pi/.ssh/authorized_keys",
                "/home/pi/.ssh/authorized_keys",
                0o100600,
                rootfs.PI_UID,
            ),
        ]
        script = "\n".join(commands) + "\n"
        run("debugfs", "-w", "-f", "-", self._disk, stdin=script)
        access = SshAccess("vm", self.folder / "ssh_config")
        ssh.write_client_config(
            access.config,
            alias=access.alias,
            address="127.0.0.1",
            port=self._port,
            user=ssh.USER,
            key=key,
            known_hosts=f"[127.0.0.1]:{self._port} {kind} {host_key}\n",
        )
        return access

    @property
    def host(self) -> str:
        return self.ssh.alias

    @property
    def ssh_config(self) -> Path:
        return self.ssh.config

    @property
    def console(self) -> str:
        path = self.folder / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    def run(self, command: str, *, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        return self.ssh.run(command, timeout_s=timeout_s)

    def boot(self, init: str = SYSTEMD) -> None:
        """Switch the machine on and wait until it takes commands.

        init: its first process; SSHD_ONLY starts in a third of the time, where no test looks at systemd.
        """
        if self._process is not None and self._process.poll() is None:
            raise LabError("the machine is on")
        network = f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{self._port}-:22"
        drive = f"if=none,id=d,file={self._disk},format=raw,cache=writeback"
        with (self.folder / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [
                    *("qemu-system-aarch64", *self._options),
                    *("-dtb", str(self.folder / "virt.dtb"), "-nographic"),
                    *("-kernel", str(self._files.kernel), "-initrd", str(self._files.initrd)),
                    *("-append", f"console=ttyAMA0 net.ifnames=0 rw edgelab_init={init}"),
                    *("-drive", drive, "-device", "virtio-blk-device,drive=d"),
                    *("-netdev", network, "-device", "virtio-net-device,netdev=n,id=link"),
                    *("-monitor", f"unix:{self.folder}/monitor,server=on,wait=off"),
                ],
                env={"PATH": "/usr/bin:/bin", "EDGELAB_STATE": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self._wait_ready()

    def _wait_ready(self, old_boot_id: str = "") -> None:
        deadline = time.monotonic() + BOOT_DEADLINE_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            if "Kernel panic" in self.console:
                break
            if self.boot_id() not in ("", old_boot_id):
                return
            time.sleep(0.5)
        raise LabError(f"the machine did not start: {self.console[-2000:]}")

    def boot_id(self) -> str:
        """A name of this start of the machine; "" while it takes no commands."""
        try:
            done = self.run("cat /proc/sys/kernel/random/boot_id", timeout_s=20)
        except LabError:
            return ""
        return done.stdout.strip()

    def reboot(self) -> None:
        """Restart by systemd, and wait until the new start takes commands."""
        old = self.boot_id()
        self.run("sudo systemctl reboot")
        self._wait_ready(old)

    def cut_link(self) -> None:
        """Pull the plug of its network: packets are lost, no connection is told."""
        self._monitor("set_link link off")

    def restore_link(self) -> None:
        """Put the plug back."""
        self._monitor("set_link link on")

    def _monitor(self, command: str) -> None:
        """One command of QEMU's monitor, done when it asks for the next."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(30)
            line.connect(str(self.folder / "monitor"))
            line.sendall(f"{command}\n".encode())
            said = b""
            while said.count(b"(qemu) ") < 2:
                heard = line.recv(4096)
                if not heard:
                    raise LabError(f"QEMU's monitor hung up at {command!r}: {said[-200:]!r}")
                said += heard

    def power_cut(self) -> None:
        """End the machine at once: what its kernel had not written to the disk is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=20)
            self._process = None

    def close(self) -> None:
        if os.getpid() != self._pid:  # a forked child's exit
            return
        atexit.unregister(self.close)
        self.power_cut()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Vm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _debugfs_put(source: Path, target: str, mode: int, uid: int) -> list[str]:
    """Commands of debugfs(8) that put a file into an unmounted ext4."""
    fields = {"mode": f"0{mode:o}", "uid": str(uid), "gid": str(uid)}
    return [
        f"rm {target}",
        f"write {source} {target}",
        *(f"sif {target} {name} {value}" for name, value in fields.items()),
    ]
