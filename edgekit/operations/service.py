"""An app as a service of a device's systemd: a unit that runs the person's command and is restarted after a switch."""

from __future__ import annotations

from edgekit.devices import Device, Facts
from edgekit.devices.device import run_script
from edgekit.errors import InputError, TargetError
from edgekit.installed import check_app

TIMEOUT_S = 60.0

_WHERE = """
if [ "$(id -u)" = 0 ]; then
  folder=/etc/systemd/system
  control() { systemctl "$@"; }
else
  folder=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
  XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
  export XDG_RUNTIME_DIR
  control() { systemctl --user "$@"; }
fi
"""

# unit; its text on standard input. Without lingering a user's services end with the last login; without polkit a user
# may not ask for it, also where it is on already.
_INSTALL = (
    _WHERE
    + """
mkdir -p "$folder"
cat > "$folder/$1.new"
mv -f "$folder/$1.new" "$folder/$1"
control daemon-reload
name=$(id -un)
lingers() { [ "$(loginctl show-user "$name" --property=Linger --value 2>&1)" = yes ]; }
if [ "$(id -u)" != 0 ] && ! lingers && ! loginctl enable-linger > /dev/null 2>&1; then echo "nolinger $name"; fi
"""
)

# unit
_UNINSTALL = (
    _WHERE
    + """
if [ -f "$folder/$1" ]; then
  control disable --now "$1" > /dev/null 2>&1 || true
  rm -f "$folder/$1"
  control daemon-reload || true
  echo gone
fi
"""
)

_RESTART = (
    'if [ "$(id -u)" = 0 ]; then user=; else user=--user; '
    "export XDG_RUNTIME_DIR=${{XDG_RUNTIME_DIR:-/run/user/$(id -u)}}; fi; "
    "systemctl $user enable --quiet {unit} && systemctl $user restart {unit}"
)


def unit_name(app: str) -> str:
    """The unit of an app."""
    return f"edgekit-{check_app(app)}.service"


def unit_text(app: str, command: str) -> str:
    """The unit that runs a command line of the device's shell, again whenever it ends."""
    if not command.strip() or any(ord(c) < 32 for c in command):
        raise InputError("--service takes one command line", hint="--service 'python3 camera.py'")
    for plain, written in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):  # systemd.service(5), quoting
        command = command.replace(plain, written)
    return (
        f"[Unit]\nDescription=edgekit app {app}\nAfter=network.target\n\n"
        f'[Service]\nExecStart=/bin/sh -c "{command}"\nRestart=always\nRestartSec=2\n\n'
        "[Install]\nWantedBy=default.target multi-user.target\n"
    )


def restart_command(app: str) -> str:
    """The command line that (re)starts the service, recorded as the app's restart command."""
    return _RESTART.format(unit=unit_name(app))


def install_service(device: Device, facts: Facts, app: str, command: str) -> tuple[str, ...]:
    """Write the unit; it starts with the switch, when its restart command runs. Gives notes for the person."""
    if "systemctl" not in facts.tools:
        raise TargetError(f"{device.name} has no systemd", hint="--restart CMD starts the app in your own way")
    said = run_script(device, _INSTALL, unit_name(app), stdin=unit_text(app, command).encode(), timeout_s=TIMEOUT_S)
    return tuple(
        f"the service starts with the first login: sudo loginctl enable-linger {line.partition(' ')[2]}"
        for line in said
        if line.startswith("nolinger ")
    )


def remove_service(device: Device, facts: Facts, app: str) -> bool:
    """Stop and remove the unit, if there is one."""
    if "systemctl" not in facts.tools:
        return False
    return "gone" in run_script(device, _UNINSTALL, unit_name(app), timeout_s=TIMEOUT_S)
