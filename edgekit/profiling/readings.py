"""A value that was read, or the reason why it was not: never a 0 that stands for "unknown"."""

from __future__ import annotations

import math

from edgekit.errors import InputError
from edgekit.records import Record


class Reading(Record):
    """A number in the unit its field names, or null and why."""

    value: float | None
    reason: str | None

    def check(self) -> None:
        if (self.value is None) == (not self.reason):
            raise InputError(f"a reading has a value or a reason, got value={self.value!r}, reason={self.reason!r}")
        if self.value is not None and not math.isfinite(self.value):
            raise InputError(f"a reading is a finite number, got {self.value!r}")


class Fact(Record):
    """A text such as a governor's name, or null and why."""

    text: str | None
    reason: str | None

    def check(self) -> None:
        if (self.text is None) == (not self.reason):
            raise InputError(f"a fact has a text or a reason, got text={self.text!r}, reason={self.reason!r}")


class Throttle(Record):
    """What the board itself says about holding back, as names of conditions; null and why where it says nothing.

    now: at the moment of reading. since_boot: has occurred since the last boot.
    """

    now: tuple[str, ...] | None
    since_boot: tuple[str, ...] | None
    source: str | None
    reason: str | None

    def check(self) -> None:
        if (self.now is None) == (not self.reason):
            raise InputError(f"throttle flags are known or have a reason, got {self.now!r}, reason={self.reason!r}")


def known(value: float) -> Reading:
    """A reading that was made."""
    return Reading(value=float(value), reason=None)


def unknown(reason: str) -> Reading:
    """A reading that could not be made."""
    return Reading(value=None, reason=reason)


def fact(text: str | None, reason: str) -> Fact:
    """The text, or the reason where it is null or empty."""
    return Fact(text=text, reason=None) if text else Fact(text=None, reason=reason)


def no_throttle_flags(reason: str) -> Throttle:
    """A board that does not say whether it holds back."""
    return Throttle(now=None, since_boot=None, source=None, reason=reason)
