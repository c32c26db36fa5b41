"""Whisper's languages, tasks and timestamps, from generation_config.json or, where that is silent, the tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from edgekit.errors import InputError
from edgekit.manifest import InputSpec
from edgekit.packaging.hf_text import token_id
from edgekit.packaging.hub_folder import Config, HubFolder
from edgekit.specs.audio import AudioSpec
from edgekit.specs.generation import Speech, Timestamps

TASKS = ("transcribe", "translate")
NO_TIMESTAMPS = "<|notimestamps|>"
TIMESTAMPS = 1501
"""0.00 to 30.00 s in steps of 0.02 s: the last tokens of Whisper's own vocabularies."""


def read_speech(
    folder: HubFolder, get: Callable[[str], Any], tokenizer: Config, vocabulary: int, spec: InputSpec
) -> tuple[Speech, int]:
    """What may stand in the prompt, and how many tokens a prompt without timestamps has.

    get: a setting of generation_config.json or config.json. Raises InputError for an unknown default language.
    """
    forced = _forced(get)
    languages, tasks = _languages(get, tokenizer), _tasks(get, tokenizer)
    if get("is_multilingual") is False or (1 in forced and forced[1] not in (None, *languages.values())):
        languages, tasks = {}, {}
    silent = get("no_timestamps_token_id")
    if silent is None:
        silent = token_id(tokenizer, NO_TIMESTAMPS)
    speech = Speech(
        languages=languages,
        tasks=tasks,
        language=_language(folder, get("language"), forced.get(1), languages),
        task=_task(get("task"), forced.get(2), tasks),
        no_timestamps=silent,
        timestamps=_timestamps(get, tokenizer, silent, vocabulary, spec),
    )
    return speech, 1 + bool(languages) + bool(tasks) + (silent is not None)


def _forced(get: Callable[[str], Any]) -> dict[int, int | None]:
    """forced_decoder_ids of old configs: position -> token, null where it is to be found out."""
    pairs = get("forced_decoder_ids")
    if not isinstance(pairs, list):
        return {}
    return {int(p[0]): p[1] for p in pairs if isinstance(p, list) and len(p) == 2}


def _languages(get: Callable[[str], Any], tokenizer: Config) -> dict[str, int]:
    table = get("lang_to_id")
    if isinstance(table, dict):
        return {_bare(token): int(number) for token, number in table.items()}
    return {
        _bare(added["content"]): int(added["id"])
        for added in tokenizer.get("added_tokens") or ()
        if isinstance(added, dict) and re.fullmatch(r"<\|[a-z]{2,3}\|>", str(added.get("content")))
    }


def _tasks(get: Callable[[str], Any], tokenizer: Config) -> dict[str, int]:
    table = get("task_to_id")
    if isinstance(table, dict):
        return {str(task): int(number) for task, number in table.items()}
    found = {task: token_id(tokenizer, f"<|{task}|>") for task in TASKS}
    return {task: number for task, number in found.items() if number is not None}


def _bare(token: str) -> str:
    """`en` of `<|en|>`."""
    return token.removeprefix("<|").removesuffix("|>")


def _language(folder: HubFolder, said: Any, forced: int | None, languages: dict[str, int]) -> str | None:
    if isinstance(said, str):
        if _bare(said) not in languages:
            raise InputError(f"{folder.name}: generation_config.json: 'language' {said!r} is not in lang_to_id")
        return _bare(said)
    return next((word for word, number in languages.items() if number == forced), None)


def _task(said: Any, forced: int | None, tasks: dict[str, int]) -> str | None:
    """The task that the config says."""
    if said in tasks:
        return str(said)
    return next((word for word, number in tasks.items() if number == forced), None)


def _timestamps(
    get: Callable[[str], Any], tokenizer: Config, silent: int | None, vocabulary: int, spec: InputSpec
) -> Timestamps | None:
    """The times follow `<|notimestamps|>`, where the vocabulary has them."""
    if silent is None or not isinstance(spec, AudioSpec) or spec.length is None:
        return None
    begin = silent + 1
    if token_id(tokenizer, "<|0.00|>") != begin and vocabulary - begin != TIMESTAMPS:
        return None
    positions = get("max_source_positions")
    seconds = spec.length.samples / spec.rate_hz
    step_s = seconds / positions if isinstance(positions, int) and positions > 0 else 0.02
    limit = get("max_initial_timestamp_index")
    return Timestamps(begin=begin, step_s=step_s, initial_limit=limit if isinstance(limit, int) else None)
