"""How a bundle generates text token by token: the decoder's wiring, the choice of each token, the way back to text."""

from __future__ import annotations

from typing import Literal

from edgekit.errors import ManifestError
from edgekit.records import Record


class Cache(Record):
    """Keys or values that a decoder carries: what a step writes to `present`, the next one reads from `past`.

    kept: made by the first step and read by all others (the encoder's), else grown by every step.
    empty: the shape before the first step, a batch of 1.
    """

    past: str
    present: str
    kept: bool
    empty: tuple[int, ...]


class Forced(Record):
    """The token that must stand at this position of the whole sequence, 0 being the first of the prompt."""

    position: int
    token: int


class Choice(Record):
    """How the next token is chosen from the logits, in the order of the fields.

    repetition_penalty: logits of tokens seen before are divided by it, negative ones multiplied; 1.0 = none.
    no_repeat_ngram: no run of this many tokens comes twice; 0 = any may. suppress: never chosen; begin_suppress: not
    first after the prompt. forced: see Forced; last: the token forced where the length limit ends the text, or null.
    mode: `greedy` takes the largest; `sample` draws from softmax(logits / temperature) among the top_k largest (0 =
    all) and the fewest whose probabilities reach top_p (1.0 = all); `beam` grows `beams` texts side by side and takes
    the best by sum of log probabilities / length ** length_penalty. early_stopping: `full` ends when `beams` texts have
    ended, `likely` when the best open one, ended here, would not be among them, `never` when none can be.
    renormalize: whether the log probabilities are made ones again after the rules.
    """

    repetition_penalty: float
    no_repeat_ngram: int
    suppress: tuple[int, ...]
    begin_suppress: tuple[int, ...]
    forced: tuple[Forced, ...]
    last: int | None
    mode: Literal["greedy", "sample", "beam"]
    temperature: float
    top_k: int
    top_p: float
    beams: int
    length_penalty: float
    early_stopping: Literal["full", "likely", "never"]
    renormalize: bool

    def check(self) -> None:
        for name, least, most in (
            ("repetition_penalty", 0.01, 100.0),
            ("no_repeat_ngram", 0, 1 << 16),
            ("temperature", 0.001, 1000.0),
            ("top_k", 0, 1 << 31),
            ("top_p", 0.0, 1.0),
            ("beams", 1, 64),
            ("length_penalty", -100.0, 100.0),
        ):
            found = self.__dict__[name]
            if not least <= found <= most:
                raise ManifestError(name, f"expected {least} to {most}, got {found}")


class Timestamps(Record):
    """Tokens that stand for times: token - `begin` steps of `step_s` after the window's start.

    initial_limit: the largest number of steps that the first one may say, or null.
    """

    begin: int
    step_s: float
    initial_limit: int | None


class Speech(Record):
    """Whisper's prompt: start, language, task, and the token that says that no times are wanted.

    languages, tasks: by the word that the user passes; empty where the model has none. language, task: what is taken
    when the user says nothing; language null is found out by the model, task null is `transcribe` once a language is
    said, and none where it was found out.
    """

    languages: dict[str, int]
    tasks: dict[str, int]
    language: str | None
    task: str | None
    no_timestamps: int | None
    timestamps: Timestamps | None


class Chunks(Record):
    """How a long sound is heard: windows of `window` samples that overlap by `stride` on each inner side.

    least: a shorter sound is refused; in samples at the input's rate, as the others. silence: a window whose samples
    lie within it (1.0 is full scale) holds no words and is not asked about: models invent some.
    """

    window: int
    stride: int
    least: int
    silence: float

    def check(self) -> None:
        if not 1 <= self.window <= 1 << 28:
            raise ManifestError("window", f"expected 1 to {1 << 28}, got {self.window}")
        if not 0 <= 2 * self.stride < self.window:
            raise ManifestError("stride", f"expected less than half of window = {self.window}, got {self.stride}")
        if not 1 <= self.least <= self.window:
            raise ManifestError("least", f"expected 1 to window = {self.window}, got {self.least}")
        if not 0.0 <= self.silence <= 1.0:
            raise ManifestError("silence", f"expected 0.0 to 1.0, got {self.silence}")


class GenerationSpec(Record):
    """The autoregressive loop over one bundle's decoder; names are graphs' and values' of the manifest.

    loop: `encoder_decoder` starts from `start` and the encoder's values; `decoder_only` from the ids of the text input.
    decoder: the graph of the first step, and of all when decoder_with_past is null.
    embedder: the graph that turns the value `ids` into `embeds`, or null where the decoder takes ids.
    ids, logits: what the decoder reads and writes. branch: true from the second step on (a merged decoder), or null.
    attention_mask, position_ids: values that the loop makes, or null. caches: none for a decoder without.
    start: the first tokens; prompt: whether a prompt of the user's `append`s to them, `replace`s them, or is refused.
    eos: any of them ends the text. max_length, min_length: of the whole sequence, the prompt among it, the end not;
    max_new_tokens: of what is added to the prompt, or null. positions: the most that the decoder can hold.
    tokens_per_second: of sound, bounds the length as well; 0.0 = does not.
    tokenizer: a `tokenizer.json` of the bundle. clean_up_spaces: take out the spaces before punctuation.
    result: `text`, or `transcript` of a sound. tokens_with_prompt: whether the result's tokens begin with it.
    """

    loop: Literal["encoder_decoder", "decoder_only"]
    decoder: str
    decoder_with_past: str | None
    embedder: str | None
    ids: str
    embeds: str | None
    logits: str
    branch: str | None
    attention_mask: str | None
    position_ids: str | None
    caches: tuple[Cache, ...]
    start: tuple[int, ...]
    prompt: Literal["none", "append", "replace"]
    eos: tuple[int, ...]
    min_length: int
    max_length: int
    max_new_tokens: int | None
    positions: int
    tokens_per_second: float
    choice: Choice
    speech: Speech | None
    chunks: Chunks | None
    tokenizer: str
    clean_up_spaces: bool
    result: Literal["text", "transcript"]
    tokens_with_prompt: bool

    def check(self) -> None:
        if self.loop == "encoder_decoder" and not self.start:
            raise ManifestError("start", "an encoder-decoder needs a token to start from")
        if not 1 <= self.max_length <= self.positions:
            raise ManifestError("max_length", f"expected 1 to positions = {self.positions}, got {self.max_length}")
        if (self.embedder is None) != (self.embeds is None):
            raise ManifestError("embeds", "goes with embedder, and not without")
        if self.decoder_with_past is not None and not self.caches:
            raise ManifestError("caches", "missing, and decoder_with_past reads some")
        if self.speech is not None and self.result != "transcript":
            raise ManifestError("result", "expected 'transcript' with speech")
