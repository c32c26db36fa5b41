"""The records of a comparison of models."""

from __future__ import annotations

from edgekit.compression.intervals import Interval
from edgekit.compression.signal import Noise
from edgekit.records import Json, Record, dump

SCHEMA = 2


class Latency(Record):
    """Median milliseconds of predict with its 95 % interval, and the ratio to the first model's with its own."""

    p50_ms: float
    low_ms: float
    high_ms: float
    runs: int
    ratio: float
    ratio_low: float
    ratio_high: float
    stages_ms: dict[str, float]


class Stage(Record):
    """A value of the flow against the first model's. snr_db: null where the two are equal."""

    value: str
    snr_db: float | None
    elements: int


class Worst(Record):
    """A sample where a model does worst. label: what is right, null where only the first model's answer is known."""

    sample: str
    score: float
    label: str | None
    reference: str
    answer: str


class Candidate(Record):
    """One model among those compared; the first one is the reference of drop, ratio, stages and layers.

    multiply_adds: of one run of every graph; null where something could not be counted. score: accuracy, or agreement
    with the first. drop: how much lower it is than the first's, over the same samples. peak_bytes: of a fresh process
    that loads it and predicts once. layers: by graph. broken: layers that lose what rounding does not explain.
    doubts: what inspect finds wrong in its files.
    """

    name: str
    source: str
    digest: str
    target: str
    size_bytes: int
    parameters: int
    multiply_adds: int | None
    kinds: tuple[str, ...]
    score: Interval
    drop: Interval
    latency: Latency | None
    peak_bytes: int | None
    stages: tuple[Stage, ...]
    layers: dict[str, tuple[Noise, ...]]
    broken: tuple[str, ...]
    doubts: tuple[str, ...]
    worst: tuple[Worst, ...]


class InputRow(Record):
    """The first model on compressed pictures. quality: of JPEG, null for the files as they are. scale: decoded at 1/n.

    bytes, decode_ms: medians over the pictures. score: as in Candidate, against label or the answer for the file.
    """

    quality: int | None
    scale: int
    pictures: int
    bytes: float
    decode_ms: float
    score: Interval
    drop: Interval


class Compared(Record):
    """A comparison. measure: what the score is. labelled: whether labels decide what is right.

    device: where latency and memory were measured, null for this machine; environment, board: of that machine. Scores
    are always this machine's.
    """

    schema: int
    created_utc: str
    data: str
    measure: str
    labelled: bool
    samples: int
    device: str | None
    board: str
    environment: str
    candidates: tuple[Candidate, ...]
    inputs: tuple[InputRow, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> Json:
        """Plain JSON."""
        return dump(self)

    def place(self) -> str:
        """Where what was measured, for people."""
        where = "this machine" if self.device is None else f"{self.device} ({self.board})"
        scores = "" if self.device is None else "; scores: this machine"
        return f"latency and memory: {where}{scores}"

    def front(self) -> tuple[str, ...]:
        """The models that no other one beats in size, latency and score at once."""

        def costs(c: Candidate) -> tuple[float, float, float]:
            return c.size_bytes, c.latency.p50_ms if c.latency else 0.0, -c.score.value

        kept = []
        for one in self.candidates:
            mine = costs(one)
            beaten = any(
                all(x <= y for x, y in zip(costs(o), mine)) and costs(o) != mine
                for o in self.candidates
                if o is not one
            )
            if not beaten:
                kept.append(one.name)
        return tuple(kept)
