"""Devices by ssh: keys, the server's settings, and the client configuration a test gives out."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .host import run
from .rootfs import PI_UID

USER = "pi"
SERVER = ("/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/edgelab")
PORT = 22

# Decisions of the client under test (strict host keys, multiplexing, deadlines) are not taken
# here, so that a client that forgets one is caught.
_CLIENT_CONFIG = """Host {alias}
  HostName {address}
  Port {port}
  User {user}
  AddressFamily inet
  IdentityFile "{key}"
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile "{known_hosts}"
  GlobalKnownHostsFile /dev/null
"""

# UsePAM no: no session modules to configure. SetEnv: sshd gives sessions an environment of its
# own, and without QEMU_CPU the emulated core would be QEMU's "max".
_SERVER_CONFIG = """Port {port}
HostKey /etc/ssh/edgelab_host_key
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
MaxStartups 100
MaxSessions 100
PrintMotd no
Subsystem sftp /usr/lib/openssh/sftp-server
{set_env}"""


def make_key(path: Path) -> str:
    """A new key pair; the public half is returned."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "edgelab", "-f", path)
    return path.with_suffix(".pub").read_text()


def write_server_files(seed: Path, user_key: str, environ: dict[str, str]) -> str:
    """Write what a device adds to its root file system; the public host key is returned."""
    etc = seed / "etc/ssh"
    etc.mkdir(parents=True, exist_ok=True)
    public = make_key(etc / "edgelab_host_key")
    pairs = " ".join(f"{name}={value}" for name, value in environ.items())
    set_env = f"SetEnv {pairs}\n" if pairs else ""
    (etc / "edgelab").write_text(_SERVER_CONFIG.format(port=PORT, set_env=set_env))
    keys = seed / "home/pi/.ssh"
    keys.mkdir(parents=True)
    (keys / "authorized_keys").write_text(user_key)
    keys.chmod(0o700)
    for path in (seed / "home/pi", keys, keys / "authorized_keys"):
        os.chown(path, PI_UID, PI_UID)
    return public


def write_client_config(
    path: Path, *, alias: str, address: str, port: int, user: str, key: Path, known_hosts: str
) -> None:
    """One `Host` block, and beside it the file with the host keys that the user trusts."""
    trusted = path.with_suffix(".known_hosts")
    trusted.write_text(known_hosts)
    path.write_text(
        _CLIENT_CONFIG.format(alias=alias, address=address, port=port, user=user, key=key, known_hosts=trusted)
    )


@dataclass(frozen=True)
class SshAccess:
    """`alias` is the name to connect to with `ssh -F config`."""

    alias: str
    config: Path

    def argv(self, program: str = "ssh") -> list[str]:
        """The start of an ssh, scp or sftp command line, non-interactive and strict."""
        strict = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
        return [program, "-F", str(self.config), *strict, "-o", "LogLevel=ERROR"]

    def run(self, command: str, *, timeout_s: float) -> subprocess.CompletedProcess[str]:
        return run(*self.argv(), self.alias, command, check=False, timeout_s=timeout_s)

    def connect(self) -> None:
        """Nothing is kept open between commands."""
