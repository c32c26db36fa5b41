"""Pixels in memory that a user hands over; a module of its own, so that naming `Frame` imports no decoder."""

from __future__ import annotations

from typing import Any, Literal

from edgekit.records import Record

Order = Literal["rgb", "bgr", "grey", "rgba", "bgra"]

CHANNELS: dict[str, int] = {"rgb": 3, "bgr": 3, "grey": 1, "rgba": 4, "bgra": 4}


class Frame(Record):
    """Pixels in memory whose channels are not RGB: uint8 (H, W, channels), or (H, W) for grey."""

    array: Any
    order: Order

    def __init__(self, array: Any, order: Order) -> None:
        super().__init__(array=array, order=order)
