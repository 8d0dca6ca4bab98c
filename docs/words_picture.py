"""The picture of words: what each model draws, and what OCR reads in it."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from results import ROOT
from run_pictures import needed, source_of
from style import (
    ALARM,
    INK,
    MUTED,
    PADDING,
    POINT,
    WIDTH,
    card,
    drawing,
    picture_at,
    save,
    text_at,
)
from torch import Tensor

from ddrl.evaluation.measures.generate import generate
from ddrl.rewards.builtin.ocr import OcrReward, quoted
from ddrl.runs.loaded import LoadedRun, load_run

WORDS = ROOT / "runs/compare/words"
NUM_WORDS = 5
LATIN = 0x24F  # the last letter of it in Unicode


def words() -> None:
    """Data, and samples of the base and of two methods from the same noise, as OCR reads them."""
    needed(WORDS, "ddrl compare recipes/compare/words.toml")
    runs = {name: load_run(WORDS / f"{name}-seed0") for name in ("ddrl", "no-regularizer")}
    first = runs["ddrl"]
    held, section, real = first.corpus.heldout, first.recipe.evaluation, first.corpus.real
    chosen = [len(held.captions) * i // NUM_WORDS for i in range(NUM_WORDS)]
    captions = tuple(held.captions[i] for i in chosen)
    condition = held.condition[torch.tensor(chosen)]

    def samples(run: LoadedRun) -> Tensor:
        made = generate(
            run.forward,
            captions,
            condition=condition,
            samples_per_prompt=1,
            latent_shape=run.latent_shape,
            seed=section.seed,
            num_steps=section.steps,
            solver=section.solver,
            device=run.device,
        )
        return made.media

    pictures = {
        "Data": torch.stack([real.media[(real.caption_id == i).nonzero()[0, 0]] for i in chosen])
    }
    with first.as_base():
        pictures["Base"] = samples(first)
    pictures |= {"DDRL": samples(first), "No regularizer": samples(runs["no-regularizer"])}
    with drawing():
        figure = words_card(tuple(map(quoted, captions)), pictures)
        save(figure, "words", source_of("compare_words", WORDS.glob("*-seed*")))


def words_card(asked: Sequence[str], pictures: Mapping[str, Tensor]) -> Figure:
    """A row for each word, a column for each model; below each picture what OCR reads.

    Args:
        asked: the words.
        pictures: name -> pixels in [0, 1], shape (len(asked), 3, H, W).
    """
    reader, gap, top = OcrReward(threads=1), 14, PADDING + 34
    width = (WIDTH - 2 * PADDING - gap * (len(pictures) - 1)) / len(pictures)
    some = next(iter(pictures.values()))
    tall = width * some.shape[-2] / some.shape[-1]
    row = tall + 44
    figure = card(round(top + row * len(asked) + 34), by_hand=True)
    for column, (name, media) in enumerate(pictures.items()):
        left = PADDING + column * (width + gap)
        text_at(figure, name, left, PADDING + 12, fontweight="bold")
        for line, (word, (found,)) in enumerate(
            zip(asked, reader.read(media[:, None]), strict=True)
        ):
            y = top + line * row
            pixels = media[line].permute(1, 2, 0).clamp(0, 1).cpu().numpy()
            picture_at(figure, pixels, (left, y, width))
            _spell(figure, letters_read(word, found), left + width / 2, y + tall + 18)
    note = "Below each: what OCR reads. Red: a wrong letter; a dot: one that it does not see."
    text_at(figure, note, PADDING, top + row * len(asked) + 8, color=MUTED, fontsize=15 * POINT)
    return figure


def letters_read(asked: str, found: str) -> list[tuple[str, bool]]:
    """What was read, letter by letter, and whether each is right: the alignment with fewest edits.

    A letter that was asked for and not read is a dot, which is wrong.
    """
    found = "".join(unicodedata.normalize("NFKC", found).split())
    same = [[a.casefold() == b.casefold() for b in found] for a in asked]
    edits = [list(range(len(found) + 1))]
    for i in range(len(asked)):
        edits.append([i + 1])
        for j in range(len(found)):
            changed = edits[i][j] + (not same[i][j])
            edits[-1].append(min(changed, edits[i][j + 1] + 1, edits[-1][j] + 1))
    i, j, letters = len(asked), len(found), list[tuple[str, bool]]()
    while i or j:
        if i and j and edits[i][j] == edits[i - 1][j - 1] + (not same[i - 1][j - 1]):
            i, j = i - 1, j - 1
            letters.append((found[j], same[i][j]))
        elif j and edits[i][j] == edits[i][j - 1] + 1:
            j -= 1
            letters.append((found[j], False))
        else:
            i -= 1
            letters.append(("·", False))
    return letters[::-1]


def _spell(figure: Figure, letters: Sequence[tuple[str, bool]], x: float, y: float) -> None:
    """Letters at equal distances around x; wrong ones are red, bold and underlined."""
    step, look = 13.0, {"family": "DejaVu Sans Mono", "ha": "center", "fontsize": 20 * POINT}
    for place, (letter, right) in enumerate(letters):
        if ord(letter) > LATIN:
            letter = "\N{WHITE SQUARE}"  # of a script that the font lacks
        at = x + (place - (len(letters) - 1) / 2) * step
        tone, weight = (INK, "normal") if right else (ALARM, "bold")
        text_at(figure, letter, at, y, color=tone, fontweight=weight, **look)
        if not right:
            text_at(figure, "_", at, y + 2, color=tone, **look)
