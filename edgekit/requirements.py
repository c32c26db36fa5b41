"""What a bundle requires against what this interpreter has, read from the names of metadata folders only.

Nothing is imported for it: asking a runtime for its version would load it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence

from edgekit.errors import RuntimeMissing

STANDS_IN = {"ai-edge-litert": ("tflite-runtime",), "onnxruntime": ("onnxruntime-gpu",)}
"""Packages that hold the same runtime under another name; tflite-runtime counts its versions by itself."""

_METADATA = r"(.+?)-([^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info"
"""`numpy-2.4.0.dist-info`; Debian's own packages have `numpy-1.24.2.egg-info`."""

_CLAUSE = r"(>=|<=|==|!=|>|<|~=)(\d+(?:\.\d+)*)(\.\*)?"


def installed_versions(names: Iterable[str], folders: Sequence[str] | None = None) -> dict[str, str]:
    """The version of each of these packages that `folders` (None: where this interpreter imports from) hold."""
    names = tuple(names)
    wanted = {_plain(name): name for name in names}
    found: dict[str, str] = {}
    for folder in sys.path if folders is None else folders:
        try:
            entries = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in entries:
            match = re.fullmatch(_METADATA, entry)
            name = wanted.get(_plain(match[1])) if match else None
            if match and name:
                found.setdefault(name, match[2])
    return {name: found[name] for name in names if name in found}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def refuse_unmet(requires: Mapping[str, str], *, folders: Sequence[str] | None = None) -> None:
    """Raise RuntimeMissing naming every package that is absent or of another version than `requires` allows.

    requires: package -> version clauses as in a manifest, like `>=1.18,!=1.24.*`.
    """
    others = [other for name in requires for other in STANDS_IN.get(name, ())]
    have = installed_versions([*requires, *others], folders)
    problems = [
        f"{name}{clauses} ({_found(name, have)})" for name, clauses in requires.items() if not _met(name, clauses, have)
    ]
    if problems:
        words = " ".join(f"'{name}{clauses}'" for name, clauses in requires.items() if not _met(name, clauses, have))
        raise RuntimeMissing(
            f"this interpreter ({sys.executable}) lacks what the release requires: {', '.join(problems)}",
            hint=f"{sys.executable} -m pip install {words}; or run the app with the device's own <root>/bin/edgekit",
        )


def _found(name: str, have: Mapping[str, str]) -> str:
    return f"has {have[name]}" if name in have else "absent"


def _met(name: str, clauses: str, have: Mapping[str, str]) -> bool:
    if name in have:
        return allows(clauses, have[name])
    return any(other in have for other in STANDS_IN.get(name, ()))


def allows(clauses: str, version: str) -> bool:
    """Whether version clauses (PEP 440's comparisons on release numbers) allow a version.

    A clause that is not understood refuses: what it means to keep out is unknown.
    """
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    return numbers is not None and all(_allows(c.strip(), numbers[0]) for c in clauses.split(",") if c.strip())


def _allows(clause: str, version: str) -> bool:
    match = re.fullmatch(_CLAUSE, clause)
    if match is None:
        return False
    operator, wanted = match[1], _release(match[2])
    have = _release(version)
    width = max(len(wanted), len(have))
    padded, bound = have + (0,) * (width - len(have)), wanted + (0,) * (width - len(wanted))
    same = have[: len(wanted)] == wanted if match[3] else padded == bound
    answers = {
        "==": same,
        "!=": not same,
        ">=": padded >= bound,
        "<=": padded <= bound,
        ">": padded > bound,
        "<": padded < bound,
        "~=": padded >= bound and have[: len(wanted) - 1] == wanted[:-1],
    }
    return answers[operator]


def _release(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
