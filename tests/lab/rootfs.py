"""Root file systems of devices, built from Debian packages without running their scripts.

`mmdebstrap --variant=extract` unpacks and configures nothing, which takes seconds where emulated
maintainer scripts take minutes; what those scripts would have done is done here by hand. The
result is cached under a key of everything that goes into it, and used read-only.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .host import LabError, machine_arch, run

SOURCES = Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")
PI_UID = 1000
# Android's AID_SHELL: the user of `adb shell` (system/core, android_filesystem_config.h).
SHELL_UID = 2000

_LINUX = ("base-files", "base-passwd", "dash", "coreutils", "libc-bin")
_SSH_DEVICE = (*_LINUX, "libstdc++6", "python3", "openssh-server")
_PI32 = ("python3-numpy", "python3-pil", "python3-soundfile", "python3-click")
_ANDROID = (*_LINUX, "adbd", "toybox", "mksh")


@dataclass(frozen=True)
class RootSpec:
    """One root file system: `role` says what is made of the unpacked packages."""

    role: str
    arch: str
    suite: str
    packages: tuple[str, ...]

    @property
    def key(self) -> str:
        recipe = f"{self}\n{mirror()}\n".encode() + Path(__file__).read_bytes()
        return hashlib.sha256(recipe).hexdigest()[:20]

    @property
    def name(self) -> str:
        return f"{self.role}-{self.suite}-{self.arch}-{self.key}"


# Raspberry Pi OS is Debian bookworm (Python 3.11) or trixie (Python 3.13).
SSH_ROOTS = {
    ("amd64", "bookworm"): RootSpec("ssh", "amd64", "bookworm", _SSH_DEVICE),
    ("arm64", "bookworm"): RootSpec("ssh", "arm64", "bookworm", _SSH_DEVICE),
    ("armhf", "bookworm"): RootSpec("ssh", "armhf", "bookworm", (*_SSH_DEVICE, *_PI32)),
    ("arm64", "trixie"): RootSpec("ssh", "arm64", "trixie", _SSH_DEVICE),
}
ANDROID_ROOTS = {
    "amd64": RootSpec("android", "amd64", "trixie", _ANDROID),
    "arm64": RootSpec("android", "arm64", "trixie", _ANDROID),
}
# The same with a Python that is on no PATH, for the stand-in of Android's benchmark_model.
PHONE_ROOTS = {
    arch: RootSpec("phone", arch, "trixie", (*_ANDROID, "libstdc++6", "python3")) for arch in ("amd64", "arm64")
}
# A whole machine (vm.py): its kernel with a static busybox for the first steps, and a system that
# starts by systemd.
VM_KERNEL = RootSpec("kernel", "arm64", "bookworm", ("linux-image-arm64", "busybox-static"))
_SYSTEMD = (
    *("systemd", "systemd-sysv", "udev", "dbus", "dbus-user-session", "libpam-systemd", "sudo"),
    *("login", "passwd", "util-linux", "mount", "procps", "iproute2", "kmod", "bash", "grep"),
)
VM_SYSTEM = RootSpec("system", "arm64", "bookworm", (*_SSH_DEVICE, *_SYSTEMD))
# Only unpacked: the newer adb client, run on this machine with its own libraries.
ADB34 = RootSpec("tool", "amd64", "trixie", ("adb", "libc6"))


def mirror() -> str:
    named = os.environ.get("EDGELAB_MIRROR")
    if named:
        return named
    for path in SOURCES:
        words = path.read_text().split() if path.is_file() else []
        found = next((w for w in words if w.startswith("http") and w.rstrip("/").endswith("/debian")), None)
        if found:
            return found
    raise LabError("apt here has no Debian mirror: name one in EDGELAB_MIRROR")


def cache_folder() -> Path:
    return Path(os.environ.get("EDGELAB_CACHE") or Path.home() / ".cache" / "edgelab")


def root_path(spec: RootSpec) -> Path:
    """The folder of a root file system, built now if this machine has none yet."""
    final = cache_folder() / spec.name
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with _locked(final.with_suffix(".lock")):
        if not final.is_dir():
            building = final.with_suffix(".building")
            shutil.rmtree(building, ignore_errors=True)
            _unpack(spec, building)
            _FINISH[spec.role](spec, building)
            building.rename(final)
    return final


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpack(spec: RootSpec, root: Path) -> None:
    run(
        "mmdebstrap",
        "--quiet",
        f"--arch={spec.arch}",
        "--variant=extract",
        f"--include={','.join(spec.packages)}",
        spec.suite,
        root,
        mirror(),
        timeout_s=900,
    )
    # mmdebstrap makes the folder with a private mode; a device's / is 0755.
    root.chmod(0o755)


# Every program that a device may use; whatever else the packages' dependencies brought
# (perl, dpkg, scp, grep ...) is removed, so that nothing can come to rely on it by accident.
COREUTILS = frozenset(
    """[ arch b2sum base32 base64 basename basenc cat chcon chgrp chmod chown cksum comm cp csplit
    cut date dd df dir dircolors dirname du echo env expand expr factor false fmt fold groups head
    hostid id install join link ln logname ls md5sum mkdir mkfifo mknod mktemp mv nice nl nohup
    nproc numfmt od paste pathchk pinky pr printenv printf ptx pwd readlink realpath rm rmdir
    runcon seq sha1sum sha224sum sha256sum sha384sum sha512sum shred shuf sleep sort split stat
    stdbuf stty sum sync tac tail tee test timeout touch tr true truncate tsort tty uname unexpand
    uniq unlink users vdir wc who whoami yes chroot""".split()  # noqa: SIM905
)
SSH_PROGRAMS = COREUTILS | {"sh", "dash", "python3", "python3.11", "python3.13", "ldconfig", "sshd"}

_UNUSED = (
    *("doc", "man", "info", "locale", "perl", "perl5", "lintian", "i18n", "bash-completion"),
    *("debconf", "dpkg", "keyrings", "fonts", "common-licenses", "menu", "bug", "pixmaps"),
)


def _merge_usr(root: Path) -> None:
    """/bin, /sbin and /lib are links into /usr, as on every Debian system since bookworm."""
    for name in ("bin", "sbin", "lib", "lib64"):
        old = root / name
        if old.is_dir() and not old.is_symlink():
            (root / "usr" / name).mkdir(exist_ok=True)
            run("cp", "-a", "--remove-destination", f"{old}/.", root / "usr" / name)
            shutil.rmtree(old)
            old.symlink_to(f"usr/{name}")


def _keep_programs(root: Path, names: Iterable[str]) -> None:
    kept = set(names)
    for folder in ("usr/bin", "usr/sbin"):
        for program in (root / folder).iterdir():
            if program.name not in kept:
                program.unlink()


def _drop_unused(root: Path) -> None:
    for name in _UNUSED:
        shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
    for name in ("cache", "lib/dpkg", "lib/apt"):
        shutil.rmtree(root / "var" / name, ignore_errors=True)
    for folder in (root / "usr/lib").glob("*-linux-gnu*/perl*"):
        shutil.rmtree(folder)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _add_users(root: Path, users: Iterable[tuple[str, int, str, str]]) -> None:
    """base-passwd's own users and these (name, id, home, shell).

    The password field is "*": no password fits, and sshd does not take the account for locked
    as it would with "!" or with "x" and no shadow file.
    """
    masters = root / "usr/share/base-passwd"
    passwd = (masters / "passwd.master").read_text()
    group = (masters / "group.master").read_text()
    for name, uid, home, shell in users:
        passwd += f"{name}:*:{uid}:{uid}::{home}:{shell}\n"
        group += f"{name}:x:{uid}:\n"
    _write(root / "etc/passwd", passwd)
    _write(root / "etc/group", group)


def _run_ldconfig(spec: RootSpec, root: Path) -> None:
    """ldconfig is a static program, so the emulator runs it without any handler."""
    emulator = {"arm64": ["qemu-aarch64-static"], "armhf": ["qemu-arm-static"]}
    prefix = [] if spec.arch == machine_arch() else emulator.get(spec.arch, [])
    run(*prefix, root / "usr/sbin/ldconfig", "-r", root)


def _link_blas(root: Path) -> None:
    """What update-alternatives would link for numpy."""
    for library in ("blas", "lapack"):
        for folder in (root / "usr/lib").glob(f"*-linux-gnu*/{library}"):
            link = folder.parent / f"lib{library}.so.3"
            if not link.is_symlink():
                link.symlink_to(f"{library}/lib{library}.so.3")


def _permit_pam(root: Path) -> None:
    for part in ("account", "auth", "password", "session"):
        _write(root / f"etc/pam.d/common-{part}", f"{part} required pam_permit.so\n")


def _compile_python(root: Path) -> None:
    """py3compile's work, where this machine has the same Python: byte code depends on nothing else.

    Without it an emulated device compiles the modules it imports at every start.
    """
    for library in (root / "usr/lib").glob("python3.*"):
        own = f"python3.{sys.version_info[1]}"
        python = sys.executable if library.name == own else shutil.which(library.name)
        if python is None:
            continue
        skip = r"/(test|lib2to3|idlelib|tests|pydoc_data)/"
        options = ("-q", "-j", "2", "-x", skip, "-s", str(root), "-p", "/")
        folders = [each for each in (library, root / "usr/lib/python3/dist-packages") if each.is_dir()]
        # What does not compile (examples of old syntax) is left as source, as py3compile does.
        run(python, "-m", "compileall", *options, *folders, check=False, timeout_s=300)


def _finish_common(root: Path) -> None:
    _merge_usr(root)
    _drop_unused(root)
    _write(root / "etc/hosts", "127.0.0.1 localhost\n")
    _write(root / "etc/hostname", "localhost\n")
    _write(root / "etc/resolv.conf", "# no name server: a device has no internet\n")
    for folder in ("proc", "sys", "dev", "run", "tmp", "mnt"):
        (root / folder).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)


def _finish_ssh(spec: RootSpec, root: Path) -> None:
    _finish_common(root)
    _link_blas(root)
    _permit_pam(root)
    nologin = "/usr/sbin/nologin"
    _add_users(root, [("sshd", 101, "/run/sshd", nologin), ("pi", PI_UID, "/home/pi", "/bin/sh")])
    _keep_programs(root, SSH_PROGRAMS)
    (root / "usr/bin/sh").unlink(missing_ok=True)
    (root / "usr/bin/sh").symlink_to("dash")
    home = root / "home/pi"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh").chmod(0o700)
    run("chown", "-R", f"{PI_UID}:{PI_UID}", home)
    _run_ldconfig(spec, root)
    _compile_python(root)


# Android's /system/bin/getprop over a file, since Debian has no property service.
_GETPROP = """#!/system/bin/sh
# getprop [NAME [DEFAULT]]
if [ $# -eq 0 ]; then
  while IFS='=' read -r name value; do echo "[$name]: [$value]"; done < /system/build.prop
  exit 0
fi
while IFS='=' read -r name value; do
  if [ "$name" = "$1" ]; then echo "$value"; exit 0; fi
done < /system/build.prop
echo "$2"
"""
_ADBD = "usr/lib/android-sdk/platform-tools/adbd"


def _finish_android(spec: RootSpec, root: Path) -> None:
    """/system/bin holds Android's own shell and tools (mksh, toybox) and nothing else does."""
    _finish_common(root)
    _run_ldconfig(spec, root)
    _add_users(root, [("shell", SHELL_UID, "/", "/system/bin/sh")])
    system = root / "system/bin"
    system.mkdir(parents=True)
    shutil.copy2(root / "usr/bin/toybox", system / "toybox")
    shutil.copy2((root / "usr/bin/mksh").resolve(), system / "mksh")
    (system / "sh").symlink_to("mksh")
    for name in TOYBOX:
        if not (system / name).exists():
            (system / name).symlink_to("toybox")
    for name in NOT_IN_TOYBOX:
        shutil.copy2(root / "usr/bin" / name, system / name)
    _write(system / "getprop", _GETPROP, 0o755)
    # adbd's compiled-in shell is /bin/sh.
    _keep_programs(root, ("python3", "python3.13") if spec.role == "phone" else ())
    if spec.role == "phone":
        _compile_python(root)
    (root / "usr/bin/sh").symlink_to("/system/bin/sh")
    data = root / "data/local/tmp"
    data.mkdir(parents=True)
    os.chown(data, SHELL_UID, SHELL_UID)
    data.chmod(0o771)
    (root / "sdcard").mkdir()
    os.chown(root / "sdcard", SHELL_UID, SHELL_UID)


# The commands of Debian's toybox 0.8.9 that Android's /system/bin has as well
# (AOSP external/toybox, .config-device).
TOYBOX = tuple(
    """[ base64 basename cal cat chgrp chmod chown cksum clear cmp comm cp cpio cut date df
    dirname dos2unix du echo egrep env expand fallocate false fgrep file find flock fmt
    free getconf grep groups gunzip head hostname id install kill killall ln logname ls md5sum mkdir
    mkfifo mknod mktemp mount mountpoint mv nice nl nohup nproc nsenter od paste patch pgrep
    pidof pkill pmap printenv printf ps pwd readlink realpath rm rmdir sed seq setsid sha1sum
    sha224sum sha256sum sha384sum sha512sum sleep sort split stat strings sync tac tail tar
    taskset tee test time timeout touch true truncate tty ulimit umount uname uniq unix2dos
    unlink unshare uptime usleep uudecode uuencode vmstat watch wc which whoami xargs xxd
    yes zcat""".split()  # noqa: SIM905
)

# Android's toybox has these too, Debian's is built without them: coreutils stands in.
NOT_IN_TOYBOX = ("dd", "expr", "stty", "tr")


def _finish_kernel(spec: RootSpec, root: Path) -> None:
    """Only /boot, the modules and busybox are used, by vm.py."""
    _merge_usr(root)
    shutil.rmtree(root / "usr/share", ignore_errors=True)
    _keep_programs(root, {"busybox"})
    for modules in (root / "usr/lib/modules").iterdir():
        run("depmod", "-b", root, modules.name)


_VM_USERS = (
    *(("sshd", 101, "/run/sshd"), ("messagebus", 102, "/run/dbus")),
    *(("systemd-network", 998, "/run/systemd"), ("systemd-resolve", 997, "/run/systemd")),
    *(("systemd-timesync", 996, "/run/systemd"), ("polkitd", 995, "/run")),
)
_VM_GROUPS = ("systemd-journal", "input", "kvm", "render", "sgx", "crontab", "netdev")
_VM_NETWORK = """[Match]
Name=eth0
[Network]
Address=10.0.2.15/24
LinkLocalAddressing=no
"""


def _finish_system(spec: RootSpec, root: Path) -> None:
    """What the scripts of systemd, dbus, sudo and openssh-server would set up."""
    _finish_common(root)
    _permit_pam(root)
    users = [(name, uid, home, "/usr/sbin/nologin") for name, uid, home in _VM_USERS]
    _add_users(root, [*users, ("pi", PI_UID, "/home/pi", "/bin/bash")])
    with (root / "etc/group").open("a") as group:
        group.writelines(f"{name}:x:{900 + n}:\n" for n, name in enumerate(_VM_GROUPS))
    with (root / "etc/pam.d/common-session").open("a") as session:
        session.write("session optional pam_systemd.so\n")
    _write(root / "etc/pam.d/common-session-noninteractive", "session required pam_permit.so\n")
    _write(root / "etc/sudoers.d/pi", "pi ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    _write(root / "etc/systemd/network/10-eth0.network", _VM_NETWORK)
    _write(root / "etc/hostname", "raspberrypi\n")
    _write(root / "etc/hosts", "127.0.0.1 localhost\n127.0.1.1 raspberrypi\n")
    _write(root / "etc/fstab", "/dev/vda / ext4 errors=remount-ro 0 1\n")
    # A fixed identity: with an empty one systemd would treat the start as a first boot.
    _write(root / "etc/machine-id", "ed9e0000000000000000000000000001\n", 0o444)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    for unit in ("ssh.service", "systemd-networkd.service"):
        (wants / unit).symlink_to(f"/lib/systemd/system/{unit}")
    (root / "usr/bin/sh").unlink(missing_ok=True)
    (root / "usr/bin/sh").symlink_to("dash")
    home = root / "home/pi"
    home.mkdir(parents=True)
    run("chown", "-R", f"{PI_UID}:{PI_UID}", home)
    _run_ldconfig(spec, root)
    _compile_python(root)


def _finish_tool(spec: RootSpec, root: Path) -> None:
    _merge_usr(root)
    _drop_unused(root)


_FINISH = {
    "ssh": _finish_ssh,
    "android": _finish_android,
    "phone": _finish_android,
    "kernel": _finish_kernel,
    "system": _finish_system,
    "tool": _finish_tool,
}


def build_all() -> list[Path]:
    """Build what tiers 1 and 2 use and this machine has not yet, two at a time."""
    wanted = [*SSH_ROOTS.values(), *ANDROID_ROOTS.values(), *PHONE_ROOTS.values(), ADB34]
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(root_path, wanted))
