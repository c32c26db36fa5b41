"""Train tridigit: pictures, sounds and names of digits in one 64-dimensional space.

python train.py --data DIR --output build                    # the weights that export.py turns into graphs
python train.py --data DIR --output build --leave-one-out    # one run per speaker left out, for that figure only
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import features

SPEAKERS = ("george", "jackson", "nicolas", "theo", "yweweler")
TEST_TAKES = range(0, 3)
TRAINING_TAKES = range(5, 50)
TRAINING_IMAGES = slice(0, 7000)
TEST_IMAGES = slice(7000, 8000)
EMBEDDING_SIZE = 64
SPEED_FACTORS = np.geomspace(0.72, 1.38, 13)


@dataclass(frozen=True)
class Schedule:
    epochs: int
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    seed: int = 7


@dataclass(frozen=True)
class Images:
    values: Tensor  # (n, 1, 28, 28), normalised
    labels: Tensor


@dataclass(frozen=True)
class Recordings:
    samples: list[features.Float32]
    labels: Tensor


# ---- data


def load_images(path: Path, part: slice) -> Images:
    with np.load(path) as archive:
        pixels, labels = archive["images"][part], archive["labels"][part]
    values = torch.from_numpy(features.normalise_pixels(pixels))[:, None]
    return Images(values, torch.from_numpy(labels.astype(np.int64)))


def load_recordings(folder: Path, speakers: tuple[str, ...], takes: range) -> Recordings:
    """Read the takes that exist; the collection has gaps in its numbering."""
    named = [
        (digit, folder / f"{digit}_{speaker}_{take}.wav")
        for speaker in speakers
        for take in takes
        for digit in range(10)
    ]
    found = [(digit, path) for digit, path in named if path.exists()]
    if not found:
        raise FileNotFoundError(f"no recordings of {speakers} in {folder}")
    samples = [features.read_wave(path) for _, path in found]
    return Recordings(samples, torch.tensor([digit for digit, _ in found]))


def text_codes(texts: tuple[str, ...]) -> Tensor:
    return torch.from_numpy(np.stack([features.text_features(text) for text in texts]))


# ---- towers


def convolution(inputs: int, outputs: int, kernel: tuple[int, int], padding: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False),
        nn.BatchNorm2d(outputs, momentum=0.1),  # keras: momentum=0.9
        nn.ReLU(),
    )


class ImageTower(nn.Module):
    """(batch, 1, 28, 28) -> (batch, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [
                convolution(1, 16, (3, 3), (1, 1)),
                convolution(16, 32, (3, 3), (1, 1)),
                convolution(32, 64, (3, 3), (1, 1)),
                convolution(64, 64, (3, 3), (0, 0)),
            ]
        )
        self.dropout = nn.Dropout(0.2)
        self.projection = nn.Linear(64, EMBEDDING_SIZE)

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden = pixel_values
        for layer in self.convolutions[:-1]:
            hidden = F.max_pool2d(layer(hidden), 2)
        hidden = self.convolutions[-1](hidden).flatten(1)
        return self.projection(self.dropout(hidden))


class AudioTower(nn.Module):
    """(batch, frames, mel bands) -> (batch, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [
                convolution(1, 16, (3, 3), (1, 1)),
                convolution(16, 32, (3, 3), (1, 1)),
                convolution(32, 64, (3, 3), (1, 1)),
            ]
        )
        # Frequency is folded into channels first: what follows reads the course of the word, not the pitch.
        self.across_bands = convolution(64, 64, (1, 5), (0, 0))
        self.across_time = convolution(64, 128, (3, 1), (1, 0))
        self.dropout = nn.Dropout(0.3)
        self.projection = nn.Linear(128, EMBEDDING_SIZE)

    def forward(self, input_features: Tensor) -> Tensor:
        hidden = input_features.unsqueeze(1)
        for layer in self.convolutions:
            hidden = F.max_pool2d(layer(hidden), 2)
        hidden = self.across_time(self.across_bands(hidden))
        return self.projection(self.dropout(F.adaptive_avg_pool2d(hidden, 1).flatten(1)))


class TextTower(nn.Module):
    """(batch, 8) character codes -> (batch, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(features.TEXT.codes, 8, padding_idx=0)
        self.hidden = nn.Linear(8 * features.TEXT.length, 64)
        self.projection = nn.Linear(64, EMBEDDING_SIZE)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.projection(F.relu(self.hidden(self.embedding(input_ids).flatten(1))))


class TriDigit(nn.Module):
    """The three towers and the temperature; embeddings leave the towers without normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.image = ImageTower()
        self.audio = AudioTower()
        self.text = TextTower()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def scale(self) -> Tensor:
        return self.logit_scale.exp().clamp(max=30.0)


# ---- augmentation


def affine_grid(count: int, scales: Tensor, shifts: Tensor, rotation: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a sampling grid; scales and shifts are (count, 2) as (horizontal, vertical)."""
    cosine, sine = rotation.cos(), rotation.sin()
    rows = torch.stack(
        [
            torch.stack([scales[:, 0] * cosine, -sine, shifts[:, 0]], 1),
            torch.stack([sine, scales[:, 1] * cosine, shifts[:, 1]], 1),
        ],
        1,
    )
    return F.affine_grid(rows, [count, 1, *size], align_corners=False)


def uniform(low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape)


def augment_images(values: Tensor) -> Tensor:
    count = len(values)
    grid = affine_grid(
        count,
        uniform(0.85, 1.15, count, 2),
        uniform(-0.16, 0.16, count, 2),
        uniform(-0.26, 0.26, count),
        (features.IMAGE.height, features.IMAGE.width),
    )
    background = -features.IMAGE.mean / features.IMAGE.std
    return F.grid_sample(values - background, grid, align_corners=False) + background


def resample(samples: features.Float32, factor: float) -> features.Float32:
    """Play `factor` times as fast: pitch, formants and tempo move together, without aliasing."""
    length = max(1, round(len(samples) / factor))
    spectrum = np.fft.rfft(samples)
    bins = length // 2 + 1
    kept = np.pad(spectrum[:bins], (0, max(0, bins - len(spectrum))))
    return (np.fft.irfft(kept, length) * (length / len(samples))).astype(np.float32)


class SpeedBank:
    """Every recording at every speed factor, computed once, with lengths."""

    def __init__(self, recordings: Recordings) -> None:
        length = features.AUDIO.samples
        count = len(recordings.samples)
        self.samples = torch.zeros(len(SPEED_FACTORS), count, length)
        self.lengths = torch.zeros(len(SPEED_FACTORS), count, dtype=torch.int64)
        for speed, factor in enumerate(SPEED_FACTORS):
            for index, samples in enumerate(recordings.samples):
                changed = resample(samples, float(factor))
                self.samples[speed, index] = torch.from_numpy(features.fit_length(changed, length))
                self.lengths[speed, index] = min(len(changed), length)

    def draw(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        speeds = torch.randint(len(SPEED_FACTORS), (len(indices),))
        return self.samples[speeds, indices], self.lengths[speeds, indices]


class LogMel(nn.Module):
    """features.audio_features for a batch of waveforms."""

    def __init__(self, spec: features.AudioSpec) -> None:
        super().__init__()
        self.spec = spec
        self.window = torch.from_numpy(features.periodic_hann(spec.frame_length)).float()
        self.filters = torch.from_numpy(features.mel_filters(spec)).float()

    def forward(self, samples: Tensor) -> Tensor:
        frames = samples.unfold(1, self.spec.frame_length, self.spec.hop_length) * self.window
        power = torch.fft.rfft(frames, self.spec.fft_length).abs().square()
        return ((power @ self.filters + self.spec.log_epsilon).log() - self.spec.mean) / self.spec.std


def shift_right(samples: Tensor, lengths: Tensor) -> Tensor:
    """Delay each waveform by up to a quarter of a second, as far as its end stays inside."""
    room = (samples.shape[1] - lengths).clamp(min=0, max=2000)
    delays = (torch.rand(len(samples)) * torch.rand(len(samples)) * room).long()
    positions = torch.arange(samples.shape[1])[None] - delays[:, None]
    return samples.gather(1, positions.clamp(min=0)) * (positions >= 0)


def add_noise(samples: Tensor) -> Tensor:
    """White and low-passed noise, 5 to 50 dB below the peak."""
    count, length = samples.shape
    white = torch.randn(count, length)
    brown = F.avg_pool1d(white[:, None], 9, 1, 4)[:, 0] * 3
    mix = torch.rand(count, 1)
    level = samples.abs().amax(1, keepdim=True) * 10 ** (uniform(-50, -14, count, 1) / 20)
    present = (torch.rand(count, 1) < 0.7).float()
    return samples + present * level * 0.3 * (mix * white + (1 - mix) * brown)


def change_gain(samples: Tensor) -> Tensor:
    """Set the peak between -36 dB and full scale; recordings of the five speakers differ by 30 dB."""
    peak = samples.abs().amax(1, keepdim=True).clamp(min=1e-4)
    return samples / peak * 10 ** (uniform(-36, 0, len(samples), 1) / 20)


def warp_features(values: Tensor) -> Tensor:
    """Stretch time and frequency independently (a coarse vocal tract perturbation) and tilt the spectrum."""
    count, frames, bands = values.shape
    scales = torch.stack([uniform(0.88, 1.12, count), uniform(0.8, 1.25, count)], 1)
    shifts = torch.stack([uniform(-0.06, 0.06, count), scales[:, 1] - 1], 1)
    grid = affine_grid(count, scales, shifts, torch.zeros(count), (frames, bands))
    warped = F.grid_sample(values[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    curve = F.interpolate(torch.randn(count, 1, 5), bands, mode="linear", align_corners=True)
    return warped + 0.25 * curve


def mask_features(values: Tensor) -> Tensor:
    """SpecAugment: one band of frequencies and one stretch of frames set to the mean."""
    count, frames, bands = values.shape
    for axis, size, widest in ((1, frames, 10), (2, bands, 8)):
        width = torch.rand(count) * widest
        start = torch.rand(count) * (size - width)
        position = torch.arange(size)[None]
        hidden = (position >= start[:, None]) & (position < (start + width)[:, None])
        values = values.masked_fill(hidden.unsqueeze(2 if axis == 1 else 1), 0.0)
    return values


def augment_audio(samples: Tensor, lengths: Tensor, log_mel: LogMel) -> Tensor:
    waveform = change_gain(add_noise(shift_right(samples, lengths)))
    return mask_features(warp_features(log_mel(waveform)))


# ---- contrastive training


def info_nce(left: Tensor, right: Tensor, same: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE; `same` marks the positives, of which a batch of ten digits has several."""
    logits = scale * F.normalize(left) @ F.normalize(right).T
    weights = same.float()
    forth = F.cross_entropy(logits, weights / weights.sum(1, keepdim=True).clamp(min=1))
    back = F.cross_entropy(logits.T, weights.T / weights.T.sum(1, keepdim=True).clamp(min=1))
    return (forth + back) / 2


def contrast(embeddings: list[tuple[Tensor, Tensor]], scale: Tensor) -> Tensor:
    """Sum InfoNCE over every pair of (embedding, labels)."""
    total = torch.zeros(())
    for index, (left, left_labels) in enumerate(embeddings):
        for right, right_labels in embeddings[index + 1 :]:
            same = left_labels[:, None] == right_labels[None]
            total = total + info_nce(left, right, same, scale)
    return total


def shuffled_batches(labels: Tensor, batch: int) -> Iterator[Tensor]:
    order = torch.randperm(len(labels))
    for start in range(0, len(order) - batch + 1, batch):
        yield order[start : start + batch]


def embed(tower: nn.Module, values: Tensor) -> Tensor:
    """Run a convolutional tower with bfloat16 arithmetic, which halves the training time on a CPU that has it."""
    with torch.autocast("cpu", torch.bfloat16):
        embeddings: Tensor = tower(values)
    return embeddings.float()


class Drawing:
    """What one step learns from: recordings, pictures and the twenty texts, as embeddings with labels."""

    def __init__(self, recordings: Recordings, images: Images | None, spec: features.AudioSpec) -> None:
        self.recordings = recordings
        self.images = images
        self.bank = SpeedBank(recordings)
        self.log_mel = LogMel(spec)
        self.texts = text_codes(features.DIGIT_WORDS + features.DIGIT_CHARACTERS)
        self.text_labels = torch.arange(len(self.texts)) % 10

    def embeddings(self, model: TriDigit, indices: Tensor) -> list[tuple[Tensor, Tensor]]:
        heard = embed(model.audio, augment_audio(*self.bank.draw(indices), self.log_mel))
        drawn = [(model.text(self.texts), self.text_labels), (heard, self.recordings.labels[indices])]
        if self.images is not None:
            chosen = torch.randint(len(self.images.labels), (len(indices),))
            seen = embed(model.image, augment_images(self.images.values[chosen]))
            drawn.append((seen, self.images.labels[chosen]))
        return drawn


def train(recordings: Recordings, images: Images | None, schedule: Schedule, spec: features.AudioSpec) -> TriDigit:
    torch.manual_seed(schedule.seed)
    model = TriDigit().to(memory_format=torch.channels_last)
    drawing = Drawing(recordings, images, spec)
    steps = len(recordings.labels) // schedule.batch
    optimizer = torch.optim.AdamW(model.parameters(), schedule.learning_rate, weight_decay=schedule.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.learning_rate, total_steps=steps * schedule.epochs, pct_start=0.15
    )
    for epoch in range(schedule.epochs):
        total = 0.0
        for indices in shuffled_batches(recordings.labels, schedule.batch):
            loss = contrast(drawing.embeddings(model, indices), model.scale())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            total += loss.item()
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {total / steps:.4f}", flush=True)
    return model.eval()


# ---- measuring


def nearest(embeddings: Tensor, candidates: Tensor) -> Tensor:
    return (F.normalize(embeddings) @ F.normalize(candidates).T).argmax(1)


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    return float((predicted == labels).float().mean())


@torch.no_grad()
def image_accuracy(model: TriDigit, images: Images) -> float:
    words = model.text(text_codes(features.DIGIT_WORDS))
    return accuracy(nearest(model.image(images.values), words), images.labels)


@torch.no_grad()
def audio_accuracy(model: TriDigit, recordings: Recordings, spec: features.AudioSpec) -> float:
    words = model.text(text_codes(features.DIGIT_WORDS))
    values = np.stack([features.audio_features(samples, spec) for samples in recordings.samples])
    return accuracy(nearest(model.audio(torch.from_numpy(values)), words), recordings.labels)


@torch.no_grad()
def text_accuracy(model: TriDigit) -> float:
    words = model.text(text_codes(features.DIGIT_WORDS))
    characters = model.text(text_codes(features.DIGIT_CHARACTERS))
    return accuracy(nearest(characters, words), torch.arange(10))


# ---- commands


def leave_one_out(
    data: Path, schedule: Schedule, spec: features.AudioSpec, left_out: tuple[str, ...]
) -> dict[str, float]:
    figures = {}
    for speaker in left_out:
        others = tuple(name for name in SPEAKERS if name != speaker)
        training = load_recordings(data / "recordings", others, TRAINING_TAKES)
        model = train(training, None, schedule, spec)
        unheard = load_recordings(data / "recordings", (speaker,), range(50))
        figures[speaker] = audio_accuracy(model, unheard, spec)
        print(f"left out {speaker}: {figures[speaker]:.4f} on {len(unheard.samples)} recordings", flush=True)
    return figures


def train_all(data: Path, output: Path, schedule: Schedule, spec: features.AudioSpec) -> dict[str, float]:
    images = load_images(data / "mnist_t10k_first8000.npz", TRAINING_IMAGES)
    recordings = load_recordings(data / "recordings", SPEAKERS, TRAINING_TAKES)
    model = train(recordings, images, schedule, spec)
    torch.save(model.state_dict(), output / "tridigit.pt")
    test_images = load_images(data / "mnist_t10k_first8000.npz", TEST_IMAGES)
    test_recordings = load_recordings(data / "recordings", SPEAKERS, TEST_TAKES)
    return {
        "image_to_text": image_accuracy(model, test_images),
        "audio_to_text": audio_accuracy(model, test_recordings, spec),
        "characters_to_words": text_accuracy(model),
        "scale": model.scale().item(),
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist_t10k_first8000.npz and recordings/")
    parser.add_argument("--output", type=Path, required=True, help="folder for the checkpoint and the figures")
    parser.add_argument("--leave-one-out", action="store_true", help="measure unheard speakers; exports nothing")
    parser.add_argument("--speakers", nargs="+", choices=SPEAKERS, default=SPEAKERS, help="whom to leave out")
    parser.add_argument(
        "--epochs", type=int, default=120, help="the figures of README.md: 120, and 100 to leave one out"
    )
    parser.add_argument("--threads", type=int, default=1, help="another number gives slightly other weights")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    arguments.output.mkdir(parents=True, exist_ok=True)
    schedule = Schedule(epochs=arguments.epochs)
    if arguments.leave_one_out:
        figures = leave_one_out(arguments.data, schedule, features.AUDIO, tuple(arguments.speakers))
        figures["mean"] = sum(figures.values()) / len(figures)
        name = "leave_one_out.json"
    else:
        figures = train_all(arguments.data, arguments.output, schedule, features.AUDIO)
        name = "figures.json"
    print(json.dumps(figures, indent=2))
    (arguments.output / name).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
