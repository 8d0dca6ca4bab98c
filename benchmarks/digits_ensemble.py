"""Does an ensemble that is trusted less where its members disagree delay hacking?

Four classifiers, each on a half of the reward's digits of its own. Writes them, a recipe that
trains on all of them, and a comparison to runs/ensemble:

python benchmarks/digits_ensemble.py
ddrl compare runs/ensemble/compare.toml
"""

from __future__ import annotations

from pathlib import Path

import torch

from ddrl.data.embedded.digits import digit_splits
from ddrl.rewards.builtin.embedded.classifier import fit_classifier
from ddrl.seeding import permutation

DIGITS = Path(__file__).resolve().parents[1] / "recipes" / "digits.toml"
FOLDER = Path("runs/ensemble")
NUM_MEMBERS = 4
REWARD = """\
[[reward]]
name = "classifier"
label = "member-{member}"
weight = 0.25
options = {{ weights = "{folder}" }}

"""
COMPARISON = """\
title = "Digits: an ensemble of rewards"
recipe = "recipe.toml"
folder = "runs/compare/digits-ensemble"
seeds = [0, 1, 2]
set = ["run.tensorboard=false", "run.checkpoint_every=0", "evaluation.every=0"]
"""
VARIANT = """
[[variant]]
name = "{name}"
set = ["{method}", "scoring.kappa={kappa}"]
"""
VARIANTS = {
    "No regularizer, mean of the ensemble": ("objective.regularizer=none", 0),
    "No regularizer, kappa 1": ("objective.regularizer=none", 1),
    "No regularizer, kappa 3": ("objective.regularizer=none", 3),
    "DDRL, mean of the ensemble": ("objective.beta=0.1", 0),
    "DDRL, kappa 3": ("objective.beta=0.1", 3),
}


def main() -> None:
    """Fit the members; write the recipe and the comparison."""
    torch.set_num_threads(1)
    data = digit_splits().reward
    rewards = ""
    for member in range(NUM_MEMBERS):
        part = data.select(permutation(len(data), member, "ensemble")[: len(data) // 2])
        folder = FOLDER / f"member-{member}"
        fit_classifier(
            part.media,
            part.caption_id,
            labels=part.captions,
            architecture="mlp",
            seed=member,
        ).save(folder)
        rewards += REWARD.format(member=member, folder=folder)
    head, _, tail = DIGITS.read_text(encoding="utf-8").partition("[[reward]]")
    rest = "[rollout]" + tail.partition("[rollout]")[2]
    scoring = '[scoring]\ncombine = "lower_confidence"\n\n'
    (FOLDER / "recipe.toml").write_text(head + rewards + scoring + rest, encoding="utf-8")
    variants = [
        VARIANT.format(name=name, method=method, kappa=kappa)
        for name, (method, kappa) in VARIANTS.items()
    ]
    (FOLDER / "compare.toml").write_text(COMPARISON + "".join(variants), encoding="utf-8")


if __name__ == "__main__":
    main()
