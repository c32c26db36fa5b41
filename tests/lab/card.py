"""A device's SD card: an ext4 image of its own, so that full, read-only and torn are real.

The card holds the upper layer of the overlay; the read-only root file system is the lower one.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from .host import LabError, read_command, run

# Linux fs/ext4/ext4.h: EXT4_IOC_SHUTDOWN is _IOR('X', 125, __u32). NOLOGFLUSH stops the file
# system at once and writes nothing more, journal included: what xfstests use for a power cut.
_EXT4_IOC_SHUTDOWN = 0x8004587D
_GOING_FLAGS_NOLOGFLUSH = 2
_FILL_FILE = "edgelab-fill"


def create(image: Path, size_bytes: int) -> None:
    """A sparse image with an empty ext4; nothing is reserved for root, so full is full."""
    with image.open("wb") as file:
        file.truncate(size_bytes)
    options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-J", "size=4", "-E", options, image)


def repair(image: Path) -> None:
    """What a system does at boot: replay the journal, mend what is safe to mend."""
    done = run("e2fsck", "-p", image, check=False)
    # e2fsck(8): 0 clean, 1 corrected; anything above was not mended.
    if done.returncode > 1:
        raise LabError(f"e2fsck left errors on {image.name}: {done.stdout.strip()}")


def wait_detached(image: Path, timeout_s: float = 20) -> None:
    """The loop device goes some time after the last mount; two mounts would spoil the card."""
    deadline = time.monotonic() + timeout_s
    while read_command(["losetup", "-j", image]):
        if time.monotonic() > deadline:
            raise LabError(f"{image} is still attached after {timeout_s} s")
        time.sleep(0.02)


def free_bytes(root: Path) -> int:
    """What an ordinary user of this file system can still write."""
    state = os.statvfs(root)
    return state.f_bavail * state.f_frsize


def fill(root: Path, leave_bytes: int) -> None:
    """Allocate until `leave_bytes` are left, give or take one allocation of file metadata."""
    with (root / _FILL_FILE).open("ab") as file:
        for _ in range(8):
            excess = free_bytes(root) - leave_bytes
            if excess < 64 * 1024:
                return
            start = file.seek(0, os.SEEK_END)
            try:
                os.posix_fallocate(file.fileno(), start, excess)
            except OSError:
                os.posix_fallocate(file.fileno(), start, excess - excess // 16)


def free(root: Path) -> None:
    (root / _FILL_FILE).unlink(missing_ok=True)


def stop_without_flush(mount_namespace_pid: int, mount_point: Path) -> None:
    """Cut the card's power: nothing that was not synced reaches it any more."""
    code = (
        "import fcntl, os, struct, sys\n"
        "card = os.open(sys.argv[1], os.O_RDONLY)\n"
        f"fcntl.ioctl(card, {_EXT4_IOC_SHUTDOWN}, struct.pack('I', {_GOING_FLAGS_NOLOGFLUSH}))\n"
    )
    inside = ("nsenter", "-t", str(mount_namespace_pid), "-m")
    run(*inside, sys.executable, "-I", "-S", "-c", code, mount_point)


def report_error(image: Path) -> None:
    """Make ext4 find an error on the card: it turns read-only (mount option errors=remount-ro)."""
    loop = Path(read_command(["losetup", "-j", image])[0].partition(":")[0]).name
    Path(f"/sys/fs/ext4/{loop}/trigger_fs_error").write_text("edgelab")
