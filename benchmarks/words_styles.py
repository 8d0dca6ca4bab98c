"""How many styles of pictures of words are left: fonts and backgrounds, as the judge tells them.

The audit's diversity is a distance between features. Here it is counted instead how often two
samples of one prompt differ in font, or in background (Gini-Simpson), as a ratio to held-out data.
Of the runs that a comparison has left; writes benchmarks/results/words_styles.json.

    ddrl compare recipes/compare/words.toml --workers 2
    python benchmarks/words_styles.py runs/compare/words
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.record import write_result

from ddrl.builders.tasks.words import Words
from ddrl.data.embedded.words import BACKGROUNDS, FONTS
from ddrl.evaluation.measures.generate import SampleSet, generate
from ddrl.jobs.evaluate.bench import build_bench
from ddrl.records import Prompts
from ddrl.rewards.builtin.embedded.word_reader import WordReader
from ddrl.runs.loaded import LoadedRun, load_run

STYLES = {"font": len(FONTS), "background": len(BACKGROUNDS)}


def differ(style: Tensor, group: Tensor, num: int) -> float:
    """The share of pairs of one group that differ in style: (N,), (N,) -> mean over groups."""
    shares = []
    for one in sorted(set(group.tolist())):
        counts = torch.bincount(style[group == one], minlength=num).double()
        total = counts.sum()
        shares.append(1 - float((counts * (counts - 1)).sum() / (total * (total - 1))))
    return sum(shares) / len(shares)


def styles(judge: WordReader, media: Tensor, group: Tensor) -> dict[str, float]:
    """How often two pictures of a prompt differ, by what."""
    return {name: differ(judge.style(media, name), group, num) for name, num in STYLES.items()}


def sampled(run: LoadedRun, captions: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Samples and their prompts, from the audit's noise."""
    section = run.recipe.evaluation
    samples = generate(
        run.forward,
        captions[: section.prompts],
        samples_per_prompt=section.samples_per_prompt,
        latent_shape=run.latent_shape,
        seed=section.seed,
        num_steps=section.steps,
        solver=section.solver,
    )
    return samples.media, samples.prompts.prompt_id


def real_pictures(run: LoadedRun, task: Words) -> dict[str, float]:
    """What the reward and the judges say of the held-out pictures themselves."""
    bench = build_bench(task, run.corpus, run.scorer, run.device)
    held = task.splits.heldout
    prompts = Prompts.numbered(held.captions).select(held.caption_id.tolist())
    values = bench.values([SampleSet(held.media, prompts)])
    judged = {name: float(found.mean()) for name, found in values.measures.items()}
    return {"reward": float(values.reward.mean()), **judged}


def main() -> None:
    """Count the styles of data, of the base, and of every run; write them as ratios to data."""
    torch.set_num_threads(1)
    folders = sorted(Path(sys.argv[1]).glob("*-seed*")) if len(sys.argv) == 2 else []
    if not folders:
        sys.exit("give the folder of a comparison of words that was run, as runs/compare/words")
    base = load_run(folders[0], weights="base")
    task = Words(base.recipe)
    judge, held = task.reader(), task.splits.heldout
    captions = held.captions
    data = styles(judge, held.media, held.caption_id)
    rows: dict[str, dict[str, list[float]]] = {}
    for folder in [None, *folders]:
        run = base if folder is None else load_run(folder)
        name = "base" if folder is None else folder.name.partition("-seed")[0]
        found = styles(judge, *sampled(run, captions))
        for style, share in found.items():
            rows.setdefault(name, {}).setdefault(style, []).append(round(share / data[style], 4))
        print(name, {style: values[-1] for style, values in rows[name].items()}, flush=True)
    values = {
        "data": {style: round(share, 4) for style, share in data.items()},
        "real": real_pictures(base, task),
        "ratios": rows,
    }
    write_result(
        "words_styles", values, script=__file__, arguments="runs/compare/words", runs=folders
    )


if __name__ == "__main__":
    main()
