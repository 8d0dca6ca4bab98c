from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.cli.command import ddrl
from tests.jobs.audit_rewards import write_pictures
from tests.rewards.rendering import WORDS, render

from ddrl.rewards.builtin.embedded.classifier import Classifier, fit_classifier

PLANTED = "tests.jobs.audit_rewards:"


def write_words(folder: Path, num: int) -> Path:
    """Captioned pictures of words; the last caption has no quoted text."""
    folder.mkdir()
    for place, word in enumerate(WORDS[:num]):
        levels = (255 * render(word)).round().byte().movedim(0, -1).numpy()
        Image.fromarray(np.ascontiguousarray(levels)).save(folder / f"{place}.png")
        caption = f'a sign that says "{word}"' if place < num - 1 else "a sign"
        (folder / f"{place}.txt").write_text(caption)
    return folder


def test_ink_on_digits_prefers_brightness(tmp_path: Path) -> None:
    result = ddrl("reward", "audit", "ink", "--data", "digits", "--limit", "60", "--out", tmp_path)
    assert result.code == 0, result.stderr
    assert "problem: It prefers brightness: the score rises by" in result.stdout
    assert "note: It is insensitive to the prompt" in result.stdout
    assert "as its card says." in result.stdout
    assert result.stdout.splitlines()[0].split()[:3] == ["samples", "mean", "difference"]
    assert result.stdout.endswith("audit.html\n")
    report = json.loads((tmp_path / "audit.json").read_text())
    assert report["format"] == "ddrl-reward-audit/1"
    copies = {copy["name"]: copy for copy in report["copies"]}
    assert copies["shuffled_prompts"]["num_compared"] == 60
    assert copies["blank"]["difference"] == pytest.approx(0, abs=1e-6)
    assert copies["grey"]["difference"] is None  # digits are grey
    up = copies["brightness_up"]
    assert 0.1 < up["interval"][0] < up["difference"] < up["interval"][1] < 0.15
    deviations = up["difference"] / report["standard_deviation"]
    assert up["standardised"] == pytest.approx(deviations)


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    arguments = ("ink", "--data", "digits", "--limit", "20", "--out", tmp_path)
    ddrl("reward", "audit", *arguments)
    page = (tmp_path / "audit.html").read_text()
    assert page.count("<script") == 1
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert "tests speak against ink." in page
    assert page.count("<img") == 12
    assert 'class="chart-audit"' in page
    assert "ddrl reward audit ink --data digits --limit 20" in page


def test_ocr_on_words_counts_the_caption_without_text(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    data = write_words(tmp_path / "words", 10)
    result = ddrl("reward", "audit", "ocr", "--data", data, "--json")
    assert result.code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["num_samples"], report["num_failed"]) == (10, 1)
    assert "quot" in report["first_failure"]
    copies = {copy["name"]: copy for copy in report["copies"]}
    assert copies["blank"]["difference"] < -0.9
    assert copies["shuffled_prompts"]["difference"] < -0.5
    assert [one["kind"] for one in report["findings"] if one["level"] == "problem"] == ["failed"]


def test_a_classifier_is_made_for_the_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def briefly(*data: Any, **options: Any) -> Classifier:
        return fit_classifier(*data, **{**options, "num_steps": 60})

    monkeypatch.setattr("ddrl.builders.tasks.embedded.fit_classifier", briefly)
    result = ddrl("reward", "audit", "classifier", "--data", "digits", "--limit", "40", "--json")
    assert result.code == 0, result.stderr
    copies = {copy["name"]: copy for copy in json.loads(result.stdout)["copies"]}
    assert copies["shuffled_prompts"]["interval"][1] < 0


def test_options_reach_the_reward() -> None:
    arguments = ("reward", "audit", "ink", "--data", "digits", "--limit", "10", "--json")
    once = json.loads(ddrl(*arguments).stdout)
    thrice = json.loads(ddrl(*arguments, "--option", "scale=3.0").stdout)
    assert thrice["mean"] == pytest.approx(3 * once["mean"])
    assert thrice["options"] == {"scale": 3.0}
    assert "--option scale=3.0" in thrice["command"]


def test_text_options_need_no_quotation_marks() -> None:
    arguments = ("reward", "audit", "jpeg", "--data", "digits", "--limit", "10", "--json")
    report = json.loads(ddrl(*arguments, "--option", "prefer=incompressible").stdout)
    assert report["mean"] > 0


def test_a_clean_reward_is_told_so(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "pictures")
    result = ddrl("reward", "audit", f"{PLANTED}WellBehaved", "--data", data, "--out", tmp_path)
    assert "None of the tests speaks against tests.jobs" in result.stdout
    assert "No finding" in (tmp_path / "audit.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "phrases"),
    [
        (("inc", "--data", "digits"), 4, ("no reward named 'inc'", "did you mean 'ink'")),
        (("ink", "--data", "digits", "--option", "scale"), 2, ("not of the form key=value",)),
        (("ink", "--data", "digits", "--option", "size=2"), 4, ("has no option 'size'",)),
        (("ink", "--data", "no-such-folder"), 3, ("There is no data at no-such-folder",)),
        (("ocr", "--data", "digits"), 4, ("scores none of the 200 samples",)),
        (("motion", "--data", "digits"), 4, ("needs the option",)),
        (("ink",), 2, ("--data",)),
    ],
)
def test_errors_say_what_to_do(
    arguments: tuple[str, ...], code: int, phrases: tuple[str, ...]
) -> None:
    ddrl("reward", "audit", *arguments).failed(code, *phrases)


def test_an_option_of_another_type() -> None:
    result = ddrl("reward", "audit", "ink", "--data", "digits", "--option", "scale=big")
    assert result.code == 4
    assert "Option 'scale' of reward 'ink' can't be 'big'" in result.stderr
