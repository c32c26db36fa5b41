"""What a source does not say and nobody may guess: asked for by key, answered by the person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekit.errors import InputError


class Questions:
    """Collects what is missing, so that one error names it all; `--set KEY=VALUE` gives the answers."""

    def __init__(self, source: str, answers: Mapping[str, str]) -> None:
        self._source = source
        self._answers = dict(answers)
        self._used: set[str] = set()
        self._open: list[str] = []

    def choice(self, key: str, choices: Sequence[str], why: str) -> str:
        """One of the choices; the first is returned while the question is open."""
        answer = self._answer(key, f"{key}={'|'.join(choices)}  ({why})")
        if answer is not None and answer not in choices:
            raise InputError(f"{key}: expected one of {', '.join(choices)}, got '{answer}'")
        return answer or choices[0]

    def number(self, key: str, why: str) -> float:
        """A number; 1.0 is returned while the question is open."""
        return self.numbers(key, 1, why)[0]

    def numbers(self, key: str, count: int, why: str) -> tuple[float, ...]:
        """Numbers separated by commas; ones are returned while the question is open."""
        answer = self._answer(key, f"{key}={','.join(['NUMBER'] * count)}  ({why})")
        if answer is None:
            return (1.0,) * count
        try:
            found = tuple(float(part) for part in answer.split(","))
        except ValueError:
            found = ()
        if len(found) != count:
            raise InputError(f"{key}: expected {count} numbers, got '{answer}'")
        return found

    def text(self, key: str, why: str) -> str:
        """Any text; "" is returned while the question is open."""
        return self._answer(key, f"{key}=...  ({why})") or ""

    def given(self, key: str) -> str | None:
        """An answer that is welcome and not needed."""
        if key in self._answers:
            self._used.add(key)
        return self._answers.get(key)

    def finish(self) -> None:
        """Raise InputError naming every open question, or an answer that nothing asked for."""
        if self._open:
            listed = "\n".join(f"  --set {question}" for question in self._open)
            raise InputError(f"{self._source} does not say:\n{listed}", hint="answer each, or write a recipe.toml")
        idle = sorted(self._answers.keys() - self._used)
        if idle:
            raise InputError(f"--set {idle[0]}: nothing asked for it")

    def _answer(self, key: str, question: str) -> str | None:
        if key in self._answers:
            self._used.add(key)
            return self._answers[key]
        if question not in self._open:
            self._open.append(question)
        return None
