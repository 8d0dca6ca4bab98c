"""The log-probability that a small classifier gives to the prompt.

Two architectures, so that a reward and its judge can be built differently: what fools one net
need not fool the other.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ddrl.errors import RewardError, WeightsError
from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.networks.loading import UNREADABLE, one_line
from ddrl.seeding import derive_seed, generator

Architecture = Literal["mlp", "conv"]


class Classifier(nn.Module):
    """A classifier of small grey images, with the features before its last layer.

    Args:
        labels: the class names, as the prompts spell them.
        size: (height, width) in pixels.
        architecture: ``mlp`` or ``conv``.
    """

    def __init__(
        self, labels: Sequence[str], size: tuple[int, int], architecture: Architecture
    ) -> None:
        super().__init__()
        self.labels, self.size, self.architecture = tuple(labels), size, architecture
        body: list[nn.Module]
        if architecture == "mlp":
            body = [nn.Flatten(), nn.Linear(size[0] * size[1], 128), nn.ReLU()]
            body += [nn.Linear(128, 64), nn.ReLU()]
        else:
            body = [nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 48, 3, padding=1)]
            body += [nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(48, 48, 3, padding=1), nn.ReLU()]
            body += [nn.Flatten(), nn.Linear(48 * (size[0] // 2) * (size[1] // 2), 64), nn.SiLU()]
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(64, len(self.labels))

    def features(self, media: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [0, 1] to features (B, 64)."""
        return cast(Tensor, self.body(2 * media.mean(1, keepdim=True) - 1))

    def log_prob(self, media: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) to log-probabilities of the classes (B, C)."""
        return F.log_softmax(self.head(self.features(media)), dim=1)

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(self.state_dict()), folder / "model.safetensors")
        config = {"labels": self.labels, "size": self.size, "architecture": self.architecture}
        (folder / "config.json").write_text(json.dumps({"classifier": 1, **config}, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Classifier:
        """Read what :meth:`save` wrote, ready for use.

        Raises:
            WeightsError: a file is missing, unreadable, or of something else.
        """
        try:
            config = json.loads((folder / "config.json").read_text())
            size = (int(config["size"][0]), int(config["size"][1]))
            with torch.random.fork_rng(devices=[]):  # fresh weights are drawn, and written over
                model = cls(config["labels"], size, config["architecture"])
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except UNREADABLE as error:
            raise WeightsError(
                f"The classifier in {folder} can't be read: {one_line(error, 200)}.",
                hint="give a folder that ddrl has written, or leave the option weights out",
            ) from error
        return model.eval().requires_grad_(False)


def _augment(images: Tensor, rng: torch.Generator) -> Tensor:
    """Shift each image by up to one pixel, and add a little noise."""
    padded = F.pad(images, (1, 1, 1, 1))
    height, width = images.shape[-2:]
    shift = torch.randint(0, 3, (len(images), 2), generator=rng)
    rows = shift[:, :1] + torch.arange(height)
    columns = shift[:, 1:] + torch.arange(width)
    index = torch.arange(len(images))[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    noise = 0.1 * torch.randn(images[:, :1].shape, generator=rng)
    return (moved.permute(0, 3, 1, 2) + noise).clamp(0, 1)


def fit_classifier(
    media: Tensor,
    label: Tensor,
    *,
    labels: Sequence[str],
    architecture: Architecture,
    seed: int,
    num_steps: int = 800,
    batch_size: int = 128,
) -> Classifier:
    """Train a classifier with AdamW, a cosine schedule, small shifts and label smoothing.

    Args:
        media: pixels in [0, 1], shape (N, 3, H, W).
        label: class of each image, shape (N,).
        labels: class names.
        architecture: ``mlp`` or ``conv``.
        seed: seed of weights, batches and augmentation.
        num_steps: optimizer steps.
        batch_size: images per step.

    Returns:
        The classifier, frozen.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "classifier"))
        model = Classifier(labels, (media.shape[-2], media.shape[-1]), architecture)
    rng = generator(seed, "classifier-batches")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    for _ in range(num_steps):
        rows = torch.randint(len(media), (batch_size,), generator=rng)
        log_prob = model.log_prob(_augment(media[rows], rng))
        loss = F.nll_loss(log_prob, label[rows]) - 0.02 * log_prob.mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


class ClassifierReward:
    """log p(prompt | image) by a classifier, at most 0; its classes are the prompts it can score.

    Known hacks: images that are extreme rather than typical of their class.

    Args:
        weights: a folder written by :meth:`Classifier.save`. With the embedded digits it may be
            left out; a classifier is then trained on the reward split and cached.
        floor: rewards below it are raised to it, so that one bad sample does not set the scale.
    """

    card: ClassVar[RewardCard] = RewardCard(
        rewards="images that a small network takes for the class in the prompt",
        range="log-probability, from `floor` to 0",
        prompt="it has to be one of the classes that the network was trained on",
        hacks="images that are extreme rather than typical of their class, and patterns that only "
        "this network takes for it",
        cost="a pass of a small network",
        media=("images",),
        license="your own training",
        weights="option `weights`; with the embedded digits a network is trained and cached",
    )

    def __init__(self, *, weights: str, floor: float = -20.0) -> None:
        self._classifier = Classifier.load(Path(weights))
        self._index = {label: i for i, label in enumerate(self._classifier.labels)}
        self._floor = floor

    @torch.no_grad()
    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, 3, H, W) -> (B,)."""
        if media.shape[1:] != (wanted := (3, *self._classifier.size)):
            raise RewardError(
                f"The classifier takes media of shape (B, {', '.join(map(str, wanted))}), not "
                f"{tuple(media.shape)}.",
                hint="it was trained on images of that size",
            )
        for text in set(prompts.text) - self._index.keys():
            near = difflib.get_close_matches(text, self._index, 1)
            raise RewardError(
                f"The classifier has no class {text!r}.",
                hint=f"did you mean {near[0]!r}?" if near else "",
            )
        label = torch.tensor([self._index[text] for text in prompts.text], device=media.device)
        self._classifier.to(media.device)
        log_prob = self._classifier.log_prob(media.float())
        return log_prob.gather(1, label[:, None])[:, 0].clamp_min(self._floor)
