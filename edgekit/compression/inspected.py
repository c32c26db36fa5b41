"""What `inspect` answers: the facts of every graph of a source, as a table for people or as JSON."""

from __future__ import annotations

from edgekit.compression.facts import GraphFacts
from edgekit.compression.facts_text import inspection_text
from edgekit.records import Json, Record, dump


class Inspection(Record):
    """All graphs of a source. about: facts of a bundle, empty for files."""

    source: str
    about: dict[str, str]
    graphs: dict[str, GraphFacts]

    def to_dict(self) -> Json:
        """Plain JSON."""
        return dump(self)

    def __str__(self) -> str:
        return inspection_text(self.about, self.graphs)
