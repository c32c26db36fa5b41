"""What a user may ask of a text that is generated: the options of `predict` and `generate`, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from edgekit.errors import InputError, ManifestError
from edgekit.specs.generation import Choice, GenerationSpec, Speech

CHOICE = (
    "mode", "temperature", "top_k", "top_p", "repetition_penalty", "no_repeat_ngram", "beams", "length_penalty",
)  # fmt: skip
DRAWING = ("temperature", "top_k", "top_p", "seed")
"""Asking for one of these asks for a draw."""
MODES = ("greedy", "sample", "beam")
BEAMS_LIMIT = 64


class Wishes(NamedTuple):
    """One call's options over what the bundle says; None where nothing was said.

    max_new_tokens counts what is added to the prompt, max_length and min_length the whole sequence.
    """

    choice: Choice
    seed: int | None
    max_new_tokens: int | None
    max_length: int | None
    min_length: int
    prompt: str | None
    language: str | None
    task: str | None
    timestamps: bool


def option_names(spec: GenerationSpec) -> tuple[str, ...]:
    """The options that this bundle knows."""
    names = [*CHOICE, "seed", "max_new_tokens", "max_length", "min_length"]
    if spec.prompt != "none":
        names.append("prompt")
    if spec.speech is not None:
        names += [
            *(["language"] if spec.speech.languages else []),
            *(["task"] if spec.speech.tasks else []),
            *(["timestamps"] if spec.speech.timestamps else []),
        ]
    return tuple(names)


def read_wishes(spec: GenerationSpec, given: Mapping[str, Any]) -> Wishes:
    """The options as wishes. Raises InputError for one that the bundle does not know, or a value it cannot take."""
    known = option_names(spec)
    for name in given:
        if name not in known:
            raise InputError(f"no option '{name}' here", hint=f"the options are {', '.join(known)}")
    speech = spec.speech
    return Wishes(
        choice=_choice(spec.choice, given),
        seed=_whole(given, "seed", 0, (1 << 63) - 1),
        max_new_tokens=_whole(given, "max_new_tokens", 1, spec.positions),
        max_length=_whole(given, "max_length", 1, spec.positions),
        min_length=_whole(given, "min_length", 0, spec.positions) or spec.min_length,
        prompt=_text(given, "prompt"),
        language=_word(given, "language", speech, lambda s: s.languages, lambda s: s.language),
        task=_word(given, "task", speech, lambda s: s.tasks, lambda s: s.task),
        timestamps=_flag(given, "timestamps"),
    )


def _choice(choice: Choice, given: Mapping[str, Any]) -> Choice:
    changes = {name: given[name] for name in CHOICE if given.get(name) is not None}
    if "mode" not in changes and any(given.get(name) is not None for name in DRAWING):
        changes["mode"] = "sample"
    if "beams" in changes:
        changes["beams"] = _whole(changes, "beams", 1, BEAMS_LIMIT)
        if changes.get("mode", "beam") != "beam":
            raise InputError(f"beams: expected mode 'beam' with it, got '{changes['mode']}'")
        changes["mode"] = "beam" if changes["beams"] > 1 else "greedy"
    for name in ("temperature", "top_p", "repetition_penalty", "length_penalty"):
        if name in changes:
            changes[name] = _number(name, changes[name])
    for name in ("top_k", "no_repeat_ngram"):
        if name in changes:
            changes[name] = _whole(changes, name, 0, 1 << 31)
    if changes.get("mode", "greedy") not in MODES:
        raise InputError(f"mode: expected {', '.join(MODES)}, got {changes['mode']!r}")
    try:
        return choice.replace(**changes)
    except ManifestError as error:
        raise InputError(f"{error.key}: {error.problem}") from None


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise InputError(f"{name}: expected a number, got {value!r}")
    return float(value)


def _whole(given: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise InputError(f"{name}: expected a whole number from {least} to {most}, got {value!r}")
    return value


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if value not in (True, False, None):
        raise InputError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{name}: expected a string, got {type(value).__name__}")
    return value


def _word(
    given: Mapping[str, Any],
    name: str,
    speech: Speech | None,
    table: Callable[[Speech], Mapping[str, int]],
    usual: Callable[[Speech], str | None],
) -> str | None:
    if speech is None:
        return None
    value = given.get(name)
    if value is None:
        return usual(speech)
    known = table(speech)
    if value not in known:
        listed = ", ".join(known)
        raise InputError(f"{name}: this model does not know {value!r}", hint=f"one of {listed}")
    return str(value)
