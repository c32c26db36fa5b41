"""Small tables for people that are also JSON."""

from __future__ import annotations

from edgekit.records import Json
from edgekit.targets import known_targets, load_toml


class Listing(dict[str, Json]):
    """Names with what they are, printed as two columns."""

    def __str__(self) -> str:
        width = max((len(name) for name in self), default=0)
        return "\n".join(f"{name:<{width}}  {what}" for name, what in self.items())


def targets() -> Listing:
    """Name and title of every target."""
    return Listing({name: target.title for name, target in known_targets().items()})


def models() -> Listing:
    """Name and source of every recipe that comes with edgekit."""
    from edgekit.packaging.recipe import known_recipes

    return Listing({name: str(load_toml(path).get("source", "")) for name, path in known_recipes().items()})
