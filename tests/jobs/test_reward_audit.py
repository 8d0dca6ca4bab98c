from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.jobs.audit_rewards import write_pictures

from ddrl.errors import DataError, RewardError
from ddrl.evaluation.findings.reward_audit import PROMPTS, RewardAudit, Row
from ddrl.evaluation.findings.reward_findings import findings
from ddrl.jobs.reward_audit.audit import audit_reward


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("audit") / "pictures")


def audit(name: str, data: Path | str, **options: float) -> RewardAudit:
    return audit_reward(f"tests.jobs.audit_rewards:{name}", options, str(data))


def kinds(report: RewardAudit, level: str = "problem") -> set[str]:
    return {one.kind for one in findings(report) if one.level == level}


def row(report: RewardAudit, name: str) -> Row:
    return next(one for one in report.rows if one.name == name)


@pytest.mark.parametrize(
    ("name", "problems"),
    [
        ("WellBehaved", set()),
        ("Constant", {"constant"}),
        ("PromptDeaf", {"prompt_insensitive"}),
        ("DeclaredDeaf", set()),
        ("PromptOnly", {"prompt_insensitive", "picture_insensitive"}),
        ("Saturated", {"prefers_saturation_up", "prefers_noise"}),  # noise is colourful
        ("Dull", {"prefers_saturation_down", "prefers_grey", "prefers_blur"}),  # it mixes colours
        ("Bright", {"prefers_brightness_up"}),
        ("Ranks", {"order_dependent", "batch_dependent"}),
    ],
)
def test_each_planted_reward_has_its_own_problems_and_no_others(
    pictures: Path, name: str, problems: set[str]
) -> None:
    assert kinds(audit(name, pictures)) == problems


def test_what_a_smooth_reward_and_a_noisy_one_prefer(pictures: Path) -> None:
    smooth, noisy = kinds(audit("Smooth", pictures)), kinds(audit("Noisy", pictures))
    assert {"prefers_blur", "prefers_blank"} <= smooth
    assert "prefers_noise" in noisy
    assert not {"prefers_blur", "prefers_blank"} & noisy
    assert "prefers_noise" not in smooth


def test_chance_is_neither_repeatable_nor_told_to_prefer_anything(pictures: Path) -> None:
    found = kinds(audit("Random", pictures))
    assert {"not_repeatable", "prompt_insensitive"} <= found
    assert not {kind for kind in found if kind.startswith("prefers")}


def test_a_reward_upside_down(pictures: Path) -> None:
    assert {"prompt_inverted", "prefers_blank", "prefers_noise"} <= kinds(
        audit("Inverted", pictures)
    )


def test_a_score_that_depends_on_the_batch(pictures: Path) -> None:
    assert "batch_dependent" in kinds(audit("Centred", pictures))
    assert "order_dependent" not in kinds(audit("Centred", pictures))


def test_a_declared_deafness_is_a_note(pictures: Path) -> None:
    report = audit("DeclaredDeaf", pictures)
    assert kinds(report, "note") == {"prompt_insensitive"}
    assert row(report, PROMPTS).difference.value == 0


def test_samples_that_fail_are_counted_and_no_numbers(pictures: Path) -> None:
    report = audit("Choosy", pictures)
    assert np.isnan(report.originals).sum() == 12
    assert len(report.known) == 36
    assert kinds(report) == {"failed"}
    text = next(one.text for one in findings(report) if one.kind == "failed")
    assert text == "12 of 48 originals have no score: blue is not known."
    assert kinds(report, "note") == {"copies_failed"}
    grey = row(report, "grey")
    assert (grey.num, grey.num_failed) == (0, 48)
    assert row(report, "blur").num == 36
    whole = audit("WellBehaved", pictures)
    kept = np.isfinite(report.originals)
    np.testing.assert_allclose(report.known, whole.originals[kept])
    expected = (whole.copies[1].values - whole.originals)[kept].mean()
    assert row(report, "blur").difference.value == pytest.approx(expected)


def test_the_prompt_of_every_sample_is_another_one(pictures: Path) -> None:
    assert row(audit("WellBehaved", pictures), PROMPTS).num == 48


def test_one_prompt_is_not_enough_to_tell(pictures: Path, tmp_path: Path) -> None:
    for place in range(4):
        pixels = (pictures / f"{4 * place:02d}.png").read_bytes()
        (tmp_path / f"{place}.png").write_bytes(pixels)
        (tmp_path / f"{place}.txt").write_text("a red square")
    report = audit("WellBehaved", tmp_path)
    assert "prompt_untested" in kinds(report, "note")
    assert not kinds(report)


def test_clips_are_changed_in_time_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for place in range(6):
        frames = [
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(4)
        ]
        path = tmp_path / f"{place}.gif"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
        path.with_suffix(".txt").write_text(f"noise {place}")
    report = audit("Still", tmp_path)
    assert "4 frames" in report.data
    assert {"reversed", "frozen", "half_rate"} <= {one.name for one in report.rows}
    assert row(report, "frozen").difference.value == 0
    assert row(report, "reversed").difference.value != 0
    assert "motion_unnoticed" in kinds(report, "note")


def test_images_and_clips_are_not_mixed(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes((pictures / "00.png").read_bytes())
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:], duration=100)
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("a square")
    with pytest.raises(DataError, match="both images and clips"):
        audit("Constant", tmp_path)


def test_a_limit_chooses_the_same_samples_again(pictures: Path) -> None:
    name = "tests.jobs.audit_rewards:WellBehaved"
    one, same = (audit_reward(name, {}, str(pictures), limit=20) for _ in range(2))
    assert len(one.originals) == 20
    np.testing.assert_array_equal(one.originals, same.originals)


def test_a_reward_that_scores_nothing_says_why() -> None:
    with pytest.raises(
        RewardError, match=r"scores none of the 5 samples: RuntimeError: The size"
    ) as caught:
        audit_reward("tests.jobs.audit_rewards:WellBehaved", {}, "digits", limit=5)
    assert caught.value.hint.startswith("its card says what it needs: `ddrl reward list`; --data")


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("motion", {"slowly": 1.0, "quickly": 2.0}, "give clips of at least two frames"),
        ("ocr", {}, "quote the text in the prompt"),
    ],
)
def test_a_reward_that_scores_nothing_keeps_its_own_hint(
    pictures: Path, name: str, options: dict[str, float], hint: str
) -> None:
    with pytest.raises(RewardError, match="scores none of the 5 samples") as caught:
        audit_reward(name, options, str(pictures), limit=5)
    assert caught.value.hint.startswith(hint)


def test_files_of_other_sizes_are_brought_to_the_most_frequent_one(
    pictures: Path, tmp_path: Path
) -> None:
    for place in range(5):
        picture = Image.open(pictures / f"{place:02d}.png")
        larger = picture.resize((32, 32), Image.Resampling.NEAREST) if place == 2 else picture
        larger.save(tmp_path / f"{place}.png")
        caption = (pictures / f"{place:02d}.txt").read_text()
        (tmp_path / f"{place}.txt").write_text(caption)
    report = audit("WellBehaved", tmp_path)
    assert report.data.endswith("16x16, their most frequent size")
    whole = audit("WellBehaved", pictures)
    np.testing.assert_allclose(report.originals[[0, 1, 3, 4]], whole.originals[[0, 1, 3, 4]])
    assert report.originals[2] == pytest.approx(whole.originals[2], abs=0.1)


def test_one_sample_is_audited_without_deviations(pictures: Path) -> None:
    report = audit_reward("tests.jobs.audit_rewards:WellBehaved", {}, str(pictures), limit=1)
    assert report.deviation == 0
    assert row(report, "blank").difference.value < 0
    assert "prompt_untested" in kinds(report, "note")
