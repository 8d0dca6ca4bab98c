"""What is said of the comparisons on clips and words, with every figure taken from their results."""

from __future__ import annotations

from results import (
    Table,
    holds,
    listed,
    made,
    num,
    part,
    pct,
    percents,
    read_result,
    some,
    word,
)

LOSS, JUDGE, CHANGE = "heldout_loss_change", "judge_accuracy", "temporal_change"
NONE, PLAIN, REFERENCE = "No regularizer", "Supervised fine-tuning", "Reverse KL"
ONE_BETA = "Reverse KL stands here at one beta, the number that DDRL has and not the same strength: a point of its front and not its best."


def video() -> str:
    """Methods on clips."""
    table = Table("compare_moving_digits")
    others = [label for label in table.rows if label != NONE]
    highest = holds(
        all(table.mean(NONE, "reward") > table.mean(label, "reward") for label in others)
        and all(table.mean(NONE, JUDGE) < table.mean(label, JUDGE) for label in others)
        and all(table.mean(NONE, CHANGE) > table.mean(label, CHANGE) for label in others),
        "the proxy is highest, the digit judge stays behind\nall others', clips flicker",
    )
    judges = holds(
        all(table.mean(NONE, key) > table.mean("", key) for key in (JUDGE, "motion_accuracy")),
        "its judges are still better than the base's, so that a judge alone\nwould not have found it out",
    )
    firsts = [
        all(ours > theirs for theirs in row)
        for ours, *row in zip(
            table.seeds("DDRL", JUDGE),
            *(table.seeds(label, JUDGE) for label in table.rows if label != "DDRL"),
            strict=True,
        )
    ]
    rewards, judged = (
        f"{num(table.mean(REFERENCE, key), digits)} and {num(table.mean(PLAIN, key), digits)}"
        for key, digits in (("reward", 3), (JUDGE, 3))
    )
    return f"""Clips of 8 frames of 12x12: a scanned digit that moves as the caption says. The rewards are the log-probability of the digit and the
motion of the centre; the judges are another network, and registration of pixels, each as a share of 320 clips. Change from frame to
frame is 1 for real clips, and more is flicker. Without a regularizer {highest}, and the held-out loss rises by {part(table.mean(NONE, LOSS))};
{judges}. DDRL takes {part(table.share("DDRL", NONE))} of that gain in reward, with the held-out loss at {pct(table.mean("DDRL", LOSS))},
and has the best digit judge with {some(sum(firsts), len(firsts))} seeds. Reverse KL and fine-tuning alone end at rewards of {rewards}, and at {judged} by
the digit judge. {ONE_BETA}"""


def image_to_video() -> str:
    """Methods on clips whose first frame is given."""
    table = Table("compare_moving_digits_image")
    count = len(table.rows["DDRL"]["seeds"])
    start = table.mean("", JUDGE)
    torn = holds(
        all(
            table.mean(NONE, "reward") > table.mean(label, "reward")
            for label in table.rows
            if label != NONE
        )
        and all(
            table.mean(NONE, JUDGE) < table.mean(label, JUDGE)
            for label in table.rows
            if label != NONE
        ),
        "the reward ends highest, and the judge of digits lowest",
    )
    fallen = [label for label in table.rows if table.mean(label, JUDGE) < start]
    judged = ", ".join(f"{made(label)} {num(table.mean(label, JUDGE), 3)}" for label in table.rows)
    seeds = "one seed does" if count == 1 else f"{word(count)} seeds do"
    return f"""The same clips and rewards, with the first frame given (`data.given_frames = 1`); in the audit those of held-out clips. There is less to gain, since the
frame shows the digit already. Without a regularizer {torn}: digits swell and tear as the clip goes
on. DDRL takes {part(table.share("DDRL", NONE))} of that gain in reward at a loss of {pct(table.mean("DDRL", LOSS))}; reverse KL takes {part(table.share(REFERENCE, NONE))} at {pct(table.mean(REFERENCE, LOSS))}, and
{made(seeds)} not tell the two apart. The judge of digits is better than the base's ({num(start, 3)}) with {some(len(table.rows) - len(fallen), len(table.rows))} methods:
{judged}. {ONE_BETA}

![Clips from their first frame: real, the base, and four methods](images/moving_digits_image.png)"""


def words() -> str:
    """Methods on pictures of words."""
    table, styles = Table("compare_words"), read_result("words_styles")
    gains = [table.mean(label, "reward") - table.mean("", "reward") for label in ("DDRL", NONE)]
    shares = ", ".join(f"{100 * share:.0f}" for share in table.shares("DDRL", NONE))
    verdicts = table.verdicts(NONE)
    hacked = [i for i, verdict in enumerate(verdicts) if verdict == "hacked"]
    distances = [f"{table.seeds(NONE, 'frechet')[i]:.0f}" for i in hacked]
    lost = holds(
        bool(hacked)
        and all(
            styles["ratios"]["no-regularizer"][key] < styles["ratios"]["ddrl"][key]
            for key in ("font", "background")
        ),
        "styles are lost",
    )
    behind = [
        a < b
        for a, b in zip(
            table.seeds(REFERENCE, "reward"), table.seeds("DDRL", "reward"), strict=True
        )
    ]
    anchors = holds(
        table.mean("DDRL, synthetic data", "reward")
        < min(table.mean(label, "reward") for label in (REFERENCE, PLAIN)),
        "Samples of this base are bad\nanchors, as they are on the digits",
    )
    return f"""Pictures of 32x96 in which a word stands in a colour, and a transformer that spells it; font, size, place and background are free. The
reward is what RapidOCR reads, by edit similarity. The judges are a network of ours that
reads letter by letter (the share of 512 pictures whose word it reads without a mistake), and tells the colour.{_real(styles)}

DDRL takes {part(table.share("DDRL", NONE))} of the gain in OCR that no regularizer takes ({num(gains[0], 3)} of {num(gains[1], 3)}; by seed {made(shares)} %), with the held-out loss {pct(table.mean("DDRL", LOSS))}
from the base's instead of {pct(table.mean(NONE, LOSS))}, and a Fréchet distance of {num(table.mean("DDRL", "frechet"), 0)} (base {num(table.mean("", "frechet"), 0)}). Without a regularizer {some(len(hacked), len(verdicts))} runs
are hacked, at losses of {percents([table.seeds(NONE, LOSS)[i] for i in hacked])}: letters grow fat, backgrounds rough, the distance rises to {listed(distances)}, and {lost}: over all seeds
fonts differ {_style(styles, "no-regularizer", "font")} as often as in data and backgrounds {_style(styles, "no-regularizer", "background")} (DDRL: {_style(styles, "ddrl", "font")} and {_style(styles, "ddrl", "background")}; the second table).
Reverse KL at the same beta takes {part(table.share(REFERENCE, NONE))}, at a loss of {pct(table.mean(REFERENCE, LOSS))}: less than DDRL with {some(sum(behind), len(behind))} seeds. {ONE_BETA}
Data alone take {part(table.share(PLAIN, NONE))}. {anchors}: the judge reads {part(table.mean("", JUDGE))} of them, and the model is held to that.

Read frankly: the aim was a diversity of 0.85 of data's. Counted, DDRL's styles are at {_style(styles, "ddrl", "font")} (fonts) and {_style(styles, "ddrl", "background")} (backgrounds); by the distance between
the judge's features diversity is {num(table.mean("DDRL", "diversity"))}, and the base's own {num(table.mean("", "diversity"))}. The base is small and briefly trained: letters of one word come in different
fonts, backgrounds mix kinds, and features that tell kinds apart call that uniform. Longer pretraining helps some and leaves OCR little
to gain (the [journal](journal.md)); a larger network would do more.

![Words of data, the base, DDRL and no regularizer, and below each what OCR reads](images/words.png)"""


def _style(styles: dict[str, dict[str, dict[str, list[float]]]], method: str, style: str) -> str:
    found = styles["ratios"][method][style]
    return num(sum(found) / len(found))


def _real(styles: dict[str, dict[str, float]]) -> str:
    """How well reward and judges read real pictures."""
    if "real" not in styles:
        return ""
    real = styles["real"]
    return f" Of real pictures of these words the judge reads\n{part(real['judge_accuracy'])}, and OCR scores them {num(real['reward'], 3)}."
