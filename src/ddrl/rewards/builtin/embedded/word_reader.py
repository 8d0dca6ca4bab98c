"""A small network that reads pictures of words: what samples of them are judged by.

It knows no words: each letter is read by itself, and it is trained on random letters, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ddrl.errors import WeightsError
from ddrl.rewards.networks.loading import UNREADABLE, one_line
from ddrl.seeding import derive_seed, generator

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
NOISE = 0.06  # largest standard deviation of the noise on training pictures

# Channels in and out, kernel, stride and padding, from 32 pixels in height down to one.
LAYERS = (
    (6, 24, (3, 3), (2, 2), (1, 1)),
    (24, 48, (3, 3), (2, 2), (1, 1)),
    (48, 64, (3, 3), (2, 1), (1, 1)),
    (64, 96, (4, 3), (1, 1), (0, 1)),
)


class WordReader(nn.Module):
    """Reads letters column by column, and tells the style, of pictures of 32 pixels in height.

    Columns become a word by connectionist temporal classification (A. Graves et al., ICML 2006):
    the likeliest letter or blank of each; equal neighbours are one, and blanks are left out.

    Args:
        styles: name -> number of classes, of what else is told: colour, font, background.
    """

    def __init__(self, styles: Mapping[str, int]) -> None:
        super().__init__()
        self.styles = dict(styles)
        layers = [
            nn.Sequential(
                nn.Conv2d(into, out, kernel, stride, padding), nn.BatchNorm2d(out), nn.SiLU()
            )
            for into, out, kernel, stride, padding in LAYERS
        ]
        self.texture, self.letter = nn.Sequential(*layers[:2]), nn.Sequential(*layers[2:])
        self.columns = nn.Linear(96, 1 + len(ALPHABET))
        self.whole = nn.Sequential(nn.Linear(2 * 48 + 2 * 96, 128), nn.SiLU())
        self.occurs = nn.Linear(128, len(ALPHABET))
        self.heads = nn.ModuleDict({name: nn.Linear(128, num) for name, num in styles.items()})

    def _layers(self, media: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (B, 3, 32, W) in [0, 1] to (B, 48, 8, W / 4) and columns (B, W / 4, 96)."""
        blurred = F.avg_pool2d(F.pad(media, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
        # Faint stripes next to letters of full contrast.
        faint = torch.tanh(16 * (media - blurred))
        texture = cast(Tensor, self.texture(torch.cat([2 * media - 1, faint], dim=1)))
        return texture, cast(Tensor, self.letter(texture)).squeeze(2).transpose(1, 2)

    def _features(self, texture: Tensor, columns: Tensor) -> Tensor:
        parts = [texture.mean((2, 3)), texture.std((2, 3)), columns.mean(1), columns.amax(1)]
        return cast(Tensor, self.whole(torch.cat(parts, dim=1)))

    def features(self, media: Tensor) -> Tensor:
        """Pixels to features (B, 128) that tell letters and style."""
        return self._features(*self._layers(media))

    def words(self, media: Tensor) -> list[str]:
        """Read the words in pixels (B, 3, 32, W)."""
        found = []
        for row in self.columns(self._layers(media)[1]).argmax(-1).tolist():
            kept = [one for one, before in zip(row, [0, *row], strict=False) if one != before]
            found.append("".join(ALPHABET[one - 1] for one in kept if one))
        return found

    def style(self, media: Tensor, name: str) -> Tensor:
        """Return the likeliest class of one style, (B,)."""
        return cast(Tensor, self.heads[name](self.features(media))).argmax(1)

    def loss(self, media: Tensor, words: Sequence[str], styles: Mapping[str, Tensor]) -> Tensor:
        """Add up the losses of the words, of which letters occur, and of the styles."""
        texture, columns = self._layers(media)
        log_prob = F.log_softmax(self.columns(columns), dim=2).transpose(0, 1)
        spelled = [[1 + ALPHABET.index(letter) for letter in word] for word in words]
        lengths = torch.tensor([len(word) for word in words])
        letters = torch.tensor([letter for word in spelled for letter in word])
        widths = torch.full((len(media),), columns.shape[1])
        loss = F.ctc_loss(log_prob, letters, widths, lengths)
        features = self._features(texture, columns)
        occur = torch.tensor([[float(letter in word) for letter in ALPHABET] for word in words])
        loss = loss + F.binary_cross_entropy_with_logits(self.occurs(features), occur)
        for name, wanted in styles.items():
            loss = loss + F.cross_entropy(self.heads[name](features), wanted)
        return loss

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(self.state_dict()), folder / "model.safetensors")
        config = {"word_reader": 1, "styles": self.styles}
        (folder / "config.json").write_text(json.dumps(config, indent=1))

    @classmethod
    def load(cls, folder: Path) -> WordReader:
        """Read what :meth:`save` wrote, ready for use.

        Raises:
            WeightsError: a file is missing, unreadable, or of something else.
        """
        try:
            config = json.loads((folder / "config.json").read_text())
            with torch.random.fork_rng(devices=[]):  # fresh weights are drawn, and written over
                model = cls(config["styles"])
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except UNREADABLE as error:
            raise WeightsError(
                f"The reader in {folder} can't be read: {one_line(error, 200)}.",
                hint="give a folder that ddrl has written, or leave the option weights out",
            ) from error
        return model.eval().requires_grad_(False)


def fit_word_reader(
    media: Tensor,
    words: Sequence[str],
    styles: Mapping[str, Tensor],
    *,
    seed: int,
    num_steps: int = 1400,
    batch_size: int = 64,
) -> WordReader:
    """Train a reader with AdamW, a cosine schedule, small shifts and a little noise.

    Args:
        media: pixels in [0, 1], shape (N, 3, H, W).
        words: N words of small letters.
        styles: the class of each style, (N,).
        seed: seed of weights, batches and augmentation.
        num_steps: optimizer steps.
        batch_size: pictures per step.

    Returns:
        The reader, frozen.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "word-reader"))
        model = WordReader({name: int(wanted.max()) + 1 for name, wanted in styles.items()})
    rng = generator(seed, "word-reader-batches")
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    for _ in range(num_steps):
        rows = torch.randint(len(media), (batch_size,), generator=rng)
        loss = model.loss(
            _augment(media[rows], rng),
            [words[row] for row in rows.tolist()],
            {name: wanted[rows] for name, wanted in styles.items()},
        )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


def _augment(images: Tensor, rng: torch.Generator) -> Tensor:
    """Shift all images by up to two pixels each way, and make each rough by its own noise.

    Samples of small models are rough; without noise as large here, that is what features tell.
    """
    x, y = torch.randint(0, 5, (2,), generator=rng).tolist()
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate")
    moved = padded[:, :, y : y + images.shape[2], x : x + images.shape[3]]
    amount = NOISE * torch.rand((len(moved), 1, 1, 1), generator=rng)
    return (moved + amount * torch.randn(moved.shape, generator=rng)).clamp(0, 1)
