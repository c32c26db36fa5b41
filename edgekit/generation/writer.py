"""Writes the text of a generating bundle: inputs -> encoder -> tokens -> pieces of text -> a Text or a Transcript."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np

from edgekit import clock, results
from edgekit.arrays import Array, Float32
from edgekit.clock import Lap
from edgekit.errors import InputError, ManifestError
from edgekit.generation import detokenize
from edgekit.generation import loop as generate
from edgekit.generation.token_choice import Bounds, chooser, rules
from edgekit.generation.transcript import Piece, Stitching, Timeline, pieces, to_json
from edgekit.generation.wishes import Wishes, option_names, read_wishes
from edgekit.inputs import Prepare
from edgekit.manifest import Manifest
from edgekit.runtimes.graph import Graph
from edgekit.specs.audio import AudioSpec
from edgekit.specs.generation import GenerationSpec, Speech

Values = dict[str, Array]
Check = Callable[[Mapping[str, Any]], None]
"""Raises InputError for what is no input of the bundle."""
RunFlow = Callable[[Values, Sequence[str], Lap], None]
"""Runs the graphs that lead from these values to the wanted ones, which are added."""

MARGINS = "token_margins"
"""The value under which a trace has the margin of every token that was chosen."""
WAITING = "waiting"
"""The stage that is no stage: what the caller does between two pieces of text."""


class Heard(NamedTuple):
    """What one run of the decoder starts from. seconds: of sound in it, else 0.0; alone: it is the only run.

    values: None for a window without a sound in it.
    """

    values: Values | None
    piece: Piece
    seconds: float
    alone: bool


class Writer:
    """The text side of one predictor; may be called from several threads, each call has its own caches."""

    def __init__(
        self,
        manifest: Manifest,
        spec: GenerationSpec,
        graphs: Mapping[str, Graph],
        prepare: Mapping[str, Prepare],
        run_flow: RunFlow,
        read: Callable[[str], bytes],
    ) -> None:
        self._manifest = manifest
        self._spec = spec
        self._prepare = prepare
        self._run_flow = run_flow
        self._decoder = generate.wire_decoder(spec, {g.name: g for g in manifest.graphs}, graphs)
        self._needed = generate.fixed_values(self._decoder)
        self._decode = detokenize.load_decoder(spec, read)
        self._encode = detokenize.load_encoder(spec, read) if spec.prompt != "none" else None
        self._audio = next((k for k, s in manifest.inputs.items() if isinstance(s, AudioSpec)), None)
        if spec.chunks is not None and self._audio is None:
            raise ManifestError("generation.chunks", "goes with an audio input, this bundle has none")

    def whole(self, inputs: Mapping[str, Any], seen: Values | None, check: Check) -> results.Result:
        """The result when all is written; arguments as for write."""
        writing = self.write(inputs, seen, check, piecewise=False)
        while True:
            try:
                next(writing)
            except StopIteration as end:
                result: results.Result = end.value
                return result

    def write(
        self, inputs: Mapping[str, Any], seen: Values | None, check: Check, *, piecewise: bool
    ) -> Generator[str, None, results.Result]:
        """A generator of the text as it becomes certain (nothing unless piecewise) that returns the result.

        inputs: inputs and options by keyword, None for what was not given; check refuses what is no input.
        seen: receives the values of the first run, the logits of its first step, and the margins of all tokens.
        """
        given = {keyword: value for keyword, value in inputs.items() if value is not None}
        options = {name: given.pop(name) for name in option_names(self._spec) if name in given}
        try:
            check(given)
        except InputError as error:
            hint = error.hint or f"the options are {', '.join(option_names(self._spec))}"
            raise InputError(error.message, hint=hint) from None
        return self._write(given, read_wishes(self._spec, options), seen, piecewise)

    def _write(
        self, given: Mapping[str, Any], wishes: Wishes, seen: Values | None, piecewise: bool
    ) -> Generator[str, None, results.Result]:
        timings: dict[str, float] = {}
        lap = clock.start(timings)
        tally = _Tally(seen)
        script = _Script(self._spec, wishes, self._decode, self._rate_hz(), piecewise)
        seconds = 0.0
        for heard in self._hear(given, lap):
            seconds = max(seconds, heard.piece.start / max(self._rate_hz(), 1) + heard.seconds)
            prompt, new = list[int](), list[int]()
            if heard.values is not None:
                if seen is not None and tally.runs == 0:
                    seen.update(heard.values)
                prompt = self._prompt(heard.values, wishes)
                if self._spec.loop == "decoder_only":
                    script.follow(prompt)
            for token in self._tokens(heard, prompt, wishes, tally):
                new.append(token)
                if piecewise and heard.alone and (text := script.grow(new)):
                    lap("generate")
                    yield text
                    lap(WAITING)
            lap("generate")
            text = script.finish(heard, prompt, new)
            lap("postprocess")
            if text:
                yield text
                lap(WAITING)
        text, fields = script.fields()
        lap("postprocess")
        if text:
            yield text
            lap(WAITING)
        timings.pop(WAITING, None)
        timings.update(tally.figures(timings.get("generate", 0.0)))
        if seconds:
            timings["generate.real_time_factor"] = _sum_of_stages(timings) / 1e3 / seconds
        if seen is not None:
            seen[MARGINS] = np.array(tally.margins, np.float32)
        lap("postprocess")
        timings["total"] = _sum_of_stages(timings)
        kind = results.Transcript if self._spec.result == "transcript" else results.Text
        return kind(timings=timings, **fields)

    def _rate_hz(self) -> int:
        return self._manifest.inputs[self._audio].rate_hz if self._audio else 0  # type: ignore[union-attr]

    def _hear(self, given: Mapping[str, Any], lap: Lap) -> Iterator[Heard]:
        """The starting values of each run of the decoder, the encoder's among them."""
        keyword, chunks = self._audio, self._spec.chunks
        if keyword is None or chunks is None:
            prepared = {name: self._prepare[name](value, lap) for name, value in given.items()}
            starting = {name: array for p in prepared.values() for name, array in p.values.items()}
            seconds = prepared[keyword].context.seconds if keyword in prepared and keyword else 0.0
            self._run_flow(starting, self._needed, lap)
            yield Heard(starting, Piece(0, 0, 0, 0), seconds, True)
            return
        samples = self._samples(keyword, given[keyword], lap)
        rate_hz = self._rate_hz()
        if len(samples) < chunks.least:
            raise InputError(
                f"the sound is too short: expected at least {chunks.least / rate_hz:.3g} s, "
                f"got {len(samples) / rate_hz:.3g} s"
            )
        found = pieces(chunks, len(samples))
        for piece in found:
            part = samples[piece.start : piece.start + piece.length]
            values: Values | None = None
            if np.abs(part).max() > chunks.silence:
                values = dict(self._prepare[keyword]((part, rate_hz), lap).values)
                self._run_flow(values, self._needed, lap)
            yield Heard(values, piece, len(part) / rate_hz, len(found) == 1)

    def _samples(self, keyword: str, value: Any, lap: Lap) -> Float32:
        """The whole sound at the model's rate, one channel, 1.0 at full scale."""
        from edgekit.preprocess import audio, sound

        spec: Any = self._manifest.inputs[keyword]
        decoded = sound.decode(spec, value, self._manifest.limits)
        lap("decode")
        samples = audio.waveform(spec.replace(amplitude="unit"), decoded)
        lap("preprocess")
        return samples

    def _prompt(self, values: Values, wishes: Wishes) -> list[int]:
        spec = self._spec
        tokens = list(spec.start)
        if spec.loop == "decoder_only":
            tokens += values[spec.ids][0].tolist()
        if wishes.prompt is not None and self._encode is not None:
            words = self._encode(wishes.prompt)
            tokens = words if spec.prompt == "replace" and words else [*tokens, *words]
        if spec.speech is not None:
            tokens += self._speech_prompt(spec.speech, values, wishes)
        if not tokens:
            raise InputError("the text is empty: there is nothing to go on from")
        return tokens

    def _speech_prompt(self, speech: Speech, values: Values, wishes: Wishes) -> list[int]:
        tokens = []
        if speech.languages:
            language = speech.languages[wishes.language] if wishes.language else self._language(speech, values)
            tokens.append(language)
        # transformers: a language that was said and no task means to transcribe; one that was found out means neither.
        said = wishes.language is not None or len(speech.languages) == 1
        task = wishes.task or ("transcribe" if said and "transcribe" in speech.tasks else None)
        if task is not None:
            tokens.append(speech.tasks[task])
        if speech.no_timestamps is not None and not wishes.timestamps:
            tokens.append(speech.no_timestamps)
        return tokens

    def _language(self, speech: Speech, values: Values) -> int:
        """The likeliest language after the start token, as Whisper finds it out."""
        known = list(speech.languages.values())
        if len(known) == 1:
            return known[0]
        logits = generate.begin(self._decoder, values)(self._spec.start)
        return known[int(np.argmax(logits[known]))]

    def _tokens(self, heard: Heard, prompt: Sequence[int], wishes: Wishes, tally: _Tally) -> Iterator[int]:
        spec = self._spec
        if heard.values is None:
            return
        bounds = Bounds(len(prompt), spec.eos, wishes.min_length, self._limit(len(prompt), heard, wishes))
        speech = spec.speech
        times = speech.timestamps if speech is not None and wishes.timestamps else None
        active = rules(wishes.choice, bounds, times, speech.no_timestamps if speech else None)
        observe = tally.observer(spec.logits)
        tally.runs += 1
        if wishes.choice.mode == "beam":
            from edgekit.generation.beams import search

            grow = generate.branch(self._decoder, heard.values)
            tokens: Iterable[int] = search(grow, wishes.choice, active, prompt, bounds, observe)
        else:
            choose = chooser(wishes.choice, active, wishes.seed)
            advance = generate.begin(self._decoder, heard.values)
            tokens = generate.decode(advance, choose, prompt, bounds, observe)
        for token in tokens:
            tally.count()
            yield token

    def _limit(self, prompt_length: int, heard: Heard, wishes: Wishes) -> int:
        """The most tokens that this text may have, the prompt among them."""
        spec = self._spec
        if prompt_length >= spec.positions:
            raise InputError(f"the prompt has {prompt_length} tokens, the model holds {spec.positions}")
        if wishes.max_new_tokens is not None:
            limit = prompt_length + wishes.max_new_tokens
            if limit > spec.positions:
                raise InputError(
                    f"max_new_tokens: expected at most {spec.positions - prompt_length} after a prompt of "
                    f"{prompt_length}, got {wishes.max_new_tokens}"
                )
            return limit
        if wishes.max_length is not None:
            return wishes.max_length
        limit = spec.max_length if spec.max_new_tokens is None else prompt_length + spec.max_new_tokens
        if spec.tokens_per_second and heard.seconds:
            limit = min(limit, prompt_length + max(1, int(np.ceil(heard.seconds * spec.tokens_per_second))))
        return min(max(limit, prompt_length + 1), spec.positions)


def _sum_of_stages(timings: Mapping[str, float]) -> float:
    """A name with a dot is a detail below a stage."""
    return sum(ms for name, ms in timings.items() if "." not in name)


class _Tally:
    """Counts tokens and their times, and margins where a trace wants them."""

    def __init__(self, seen: Values | None) -> None:
        self._seen = seen
        self._began_ns = perf_counter_ns()
        self._first_ns = self._last_ns = 0
        self.tokens = 0
        self.runs = 0
        self.margins: list[float] = []

    def count(self) -> None:
        self._last_ns = perf_counter_ns()
        self.tokens += 1
        if self.tokens == 1:
            self._first_ns = self._last_ns

    def observer(self, logits_name: str) -> Callable[[Float32, float], None] | None:
        seen = self._seen
        if seen is None:
            return None

        def observe(logits: Float32, margin: float) -> None:
            seen.setdefault(logits_name, logits[None])
            self.margins.append(margin)

        return observe

    def figures(self, generate_ms: float) -> dict[str, float]:
        """The details below the stage; the first token's time is from the beginning of the call."""
        if not self.tokens:
            return {"generate.tokens": 0.0}
        found = {
            "generate.first_token_ms": (self._first_ns - self._began_ns) / 1e6,
            "generate.tokens": float(self.tokens),
            "generate.tokens_per_s": self.tokens / max(generate_ms, 1e-6) * 1e3,
        }
        if self.tokens > 1:
            found["generate.ms_per_token"] = (self._last_ns - self._first_ns) / 1e6 / (self.tokens - 1)
        return found


class _Script:
    """What has been written: tokens of each run become certain text, and in the end the result's fields."""

    def __init__(
        self, spec: GenerationSpec, wishes: Wishes, decode: detokenize.Decode, rate_hz: int, piecewise: bool
    ) -> None:
        self._spec = spec
        self._decode = decode
        self._piecewise = piecewise
        times = spec.speech.timestamps if spec.speech is not None else None
        self._first_time = times.begin if times is not None else None
        self._timeline = Timeline(times, rate_hz) if times is not None and wishes.timestamps else None
        self._stitching = Stitching()
        self._pieces = detokenize.Pieces(decode, hold_words=spec.clean_up_spaces)
        self._alone: list[int] | None = None

    def follow(self, prompt: Sequence[int]) -> None:
        """The text goes on from this one: what it adds to it is given, a space before its first word among it."""
        whole, before = self._decode, len(self._decode(prompt))
        self._decode = lambda tokens: whole([*prompt, *tokens])[before:]
        self._pieces = detokenize.Pieces(self._decode, hold_words=self._spec.clean_up_spaces)

    def _spoken(self, tokens: Sequence[int]) -> list[int]:
        """The tokens that are text: neither the end nor a time."""
        ends, first_time = self._spec.eos, self._first_time
        return [t for t in tokens if t not in ends and (first_time is None or t < first_time)]

    def grow(self, new: Sequence[int]) -> str:
        """The text that one more token of the only run makes certain."""
        return self._pieces.add(self._spoken(new))

    def finish(self, heard: Heard, prompt: Sequence[int], new: Sequence[int]) -> str:
        """The text that the end of a run makes certain."""
        if heard.alone:
            self._alone = [*(prompt if self._spec.tokens_with_prompt else ()), *new]
        if self._timeline is not None:
            self._timeline.add(heard.piece, [token for token in new if token not in self._spec.eos])
            settled = [t for s in self._timeline.segments() for t in s.tokens]
        else:
            self._stitching.add(self._spoken(new))
            settled = self._stitching.settled
        return self._pieces.add(settled) if self._piecewise and not heard.alone else ""

    def fields(self) -> tuple[str, dict[str, Any]]:
        """The text not given yet, and what the result says."""
        timestamps: list[dict[str, Any]] = []
        if self._timeline is not None:
            self._timeline.end()
            segments = self._timeline.segments()
            timestamps = to_json(segments, self._decode)
            tokens = [t for s in segments for t in s.tokens]
            text = "".join(s["text"] for s in timestamps)
        else:
            tokens = self._stitching.whole()
            text = self._decode(tokens)
        rest = self._pieces.end(tokens) if self._piecewise else ""
        fields: dict[str, Any] = {"text": text, "tokens": tokens if self._alone is None else self._alone}
        if self._spec.result == "transcript":
            fields["timestamps"] = timestamps
        return rest, fields
