"""D9: no word becomes a command: generated names through a real sh, and names that are refused before."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest
from deploying import checks, local_device, make_bundle, make_request

from edgekit.devices import deploy, parse_address
from edgekit.devices.transports import command_line, quote
from edgekit.errors import InputError

NAMES, APPS = 10_000, 1_000

PIECES = (
    *(
        "$(touch HACKED)",
        "`touch HACKED`",
        "; touch HACKED;",
        "&& touch HACKED",
        "| touch HACKED",
        "> HACKED",
        "${IFS}",
    ),
    *(
        "'",
        '"',
        "\\",
        "\n",
        "\t",
        " ",
        "$",
        "!",
        "*",
        "?",
        "[a]",
        "~",
        "#",
        "-rf",
        "--",
        "..",
        "/",
        "{a,b}",
        "(",
        ")",
        "<",
    ),
    *("ä", "日本", "\u202e", "\x7f", "\x01", "%s", "a", "b", "=", "^", "&", "\r", "!!", "\\n", "''", '""', "$'", "\\'"),
)


def generated(count: int, seed: int) -> list[str]:
    pick = random.Random(seed)
    return ["".join(pick.choice(PIECES) for _ in range(pick.randint(0, 8))) for _ in range(count)]


def test_ten_thousand_names_stand_for_themselves(tmp_path: Path) -> None:
    """A real sh prints each word back, byte for byte, and does nothing else."""
    names = generated(NAMES, 1)
    for start in range(0, NAMES, 500):
        some = names[start : start + 500]
        line = command_line(["printf", "%s\\0", *some])
        done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=True)
        assert done.stdout.decode().split("\0")[:-1] == some
        assert done.stderr == b""
    assert list(tmp_path.iterdir()) == []


def test_words_survive_two_shells(tmp_path: Path) -> None:
    """As over ssh: the login shell reads a line whose words are a script for sh and its arguments."""
    names = generated(1000, 2)
    line = command_line(["sh", "-c", 'printf "%s\\0" "$@"', "edgekit", *names])
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == names
    assert list(tmp_path.iterdir()) == []


def test_a_nul_is_refused() -> None:
    with pytest.raises(InputError, match="NUL"):
        quote("a\0b")


def test_a_thousand_app_names_have_no_side_effects(tmp_path: Path) -> None:
    """Names outside [a-z0-9._-] are refused before anything is sent."""
    payload = make_bundle(tmp_path, "1.0")
    root = tmp_path / "device"
    before = sorted(tmp_path.iterdir())
    for name in (*generated(APPS, 3), "..", ".", "", "a/b", "-rf", "A", "a" * 65, "a.", "x\n"):
        if re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}[a-z0-9_-]?", name):
            continue
        with pytest.raises(InputError, match="not an app name"):
            deploy(local_device(root), make_request(payload, app=name), checks())
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "text",
    [
        *("local:", "adb:", "adb:-x", "ssh:", "ssh:-oProxyCommand=x", "-oProxyCommand=x@h", "user@-x", "user@host;x"),
        *(
            "user@$(x)",
            "user@a b",
            "ssh:host:99999",
            "ssh:host:0",
            "ftp:x",
            "host",
            "",
            "adb:a;b",
            "local:a\nb",
            "a@b@c",
        ),
    ],
)
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "kind", "where", "port", "root"),
    [
        ("local:/tmp/x", "local", "/tmp/x", None, "/tmp/x"),
        ("ssh:pi@raspberrypi.local", "ssh", "pi@raspberrypi.local", None, ".local/share/edgekit"),
        ("pi@10.0.0.2", "ssh", "pi@10.0.0.2", None, ".local/share/edgekit"),
        ("ssh:pi4:2222", "ssh", "pi4", 2222, ".local/share/edgekit"),
        ("pi@[fe80::1%eth0]", "ssh", "pi@[fe80::1%eth0]", None, ".local/share/edgekit"),
        ("adb:emulator-5554", "adb", "emulator-5554", None, "/data/local/tmp/edgekit"),
        ("adb:10.0.0.3:5555", "adb", "10.0.0.3:5555", None, "/data/local/tmp/edgekit"),
    ],
)
def test_a_device_is_named_as_the_design_says(text: str, kind: str, where: str, port: int | None, root: str) -> None:
    address = parse_address(text)
    assert (address.kind, address.where, address.port, address.root) == (kind, where, port, root)
