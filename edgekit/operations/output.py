"""Files that a person asked for: known to be writable before the work, whole or untouched after it."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import InputError
from edgekit.storage import check_writable, explain, way_out, write_file


def check_outputs(*paths: Path | None) -> None:
    """Refuse now what could not be written after minutes of measuring; None is no file. Raises InputError."""
    for path in paths:
        if path is not None:
            try:
                check_writable(path)
            except OSError as error:
                raise _refused(error, path) from None


def write_output(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all. Raises InputError."""
    try:
        write_file(path, data)
    except OSError as error:
        raise _refused(error, path) from None


def _refused(error: OSError, path: Path) -> InputError:
    return InputError(f"cannot write {explain(error, path)}", hint=way_out(error))
