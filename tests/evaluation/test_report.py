from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import os
import re
import stat
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.example_report import example_report

from ddrl.errors import DataError
from ddrl.evaluation.findings.audit import FORMAT, Report, as_json
from ddrl.evaluation.measures.result import Measured
from ddrl.evaluation.measures.statistics import Interval
from ddrl.evaluation.pages.page import render_page, write_report

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Checks nesting and collects what the tests ask for."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in {"dt", "dd", "span", "br"}:
            self.text += " "
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data


def plain(text: str) -> str:
    """Text as it was before it was typeset."""
    text = text.replace("\N{MINUS SIGN}", "-").replace("\N{NO-BREAK SPACE}", " ")
    return " ".join(text.split())


@pytest.fixture(scope="module")
def html() -> str:
    return render_page(example_report())


def test_the_page_is_well_formed_and_needs_nothing_else(html: str) -> None:
    page = Page(html)
    assert page.open == []
    assert not re.search(r"https?://|//[a-z]+\.[a-z]", html)
    assert "@import" not in html
    tags = [tag for tag, _ in page.tags]
    assert not {"link", "iframe", "object", "base"} & set(tags)
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs), tag
        source = attrs.get("src")
        assert source is None or source.startswith("data:image/")


def test_a_page_runs_its_own_script_and_no_other(html: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    (policy,) = (
        attrs["content"]
        for tag, attrs in Page(html).tags
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert str(policy).startswith("default-src 'none'; img-src data:;")
    assert str(policy).endswith(f"script-src 'sha256-{digest}'")


def test_thumbnails_open_beside_the_other_models(html: str) -> None:
    tags = Page(html).tags
    thumbs = [attrs for tag, attrs in tags if tag == "button" and attrs.get("class") == "thumb"]
    assert len(thumbs) == sum(tag == "img" for tag, _ in tags)
    # Four grids: each place is there once in each.
    assert sum(attrs["data-at"] == "9-8" for attrs in thumbs) == 4
    # One stop of the Tab key per grid and per pair of rows; arrow keys turn the pages.
    assert sum("tabindex" not in attrs for attrs in thumbs) == 4 + 2
    assert sum(tag == "dialog" for tag, _ in tags) == 1


def test_every_picture_has_words(html: str) -> None:
    page = Page(html)
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    # Four grids, and two prompts of two runs before and after, with six seeds each.
    assert len(pictures) == 4 * 10 * 8 + 2 * 2 * (6 + 6)
    assert all(attrs["alt"] for attrs in pictures)
    assert "DDRL, zero, seed 1" in {attrs["alt"] for attrs in pictures}
    figures = [attrs for _, attrs in page.tags if attrs.get("class") == "chart"]
    assert len(figures) == 3
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in figures)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_the_page_tells_every_run_and_verdict(html: str) -> None:
    report = example_report()
    text = plain(Page(html).text)
    for run in report.runs:
        assert run.label in text
        assert run.is_base or report.verdicts()[run.name].sentence in text
    assert "DDRL: no sign of hacking. No regularizer: hacked." in text
    assert "1103.0" in text
    assert "+126.0 %" in text
    assert "commit 0123abc" in text
    assert all(prompt in text for prompt in report.prompts)
    assert "Features are of the judge's last hidden layer." in text
    headings = [
        *("DDRL: no sign of hacking", "The numbers", "The samples", "The worst prompts"),
        *("Pixels beside real data", "The curves", "How to read this"),
    ]
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_report(example_report(), tmp_path / name)
    for file in ("report.html", "report.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_strings_of_the_user_are_escaped() -> None:
    evil = "<script>alert('x')</script> & $x_1$"
    example = example_report()
    runs = tuple(
        dataclasses.replace(run, label=evil, method=evil, recipe=evil) for run in example.runs
    )
    report = dataclasses.replace(
        example,
        title=evil,
        created=evil,
        reproduce=evil,
        prompts=(evil, *example.prompts[1:]),
        runs=runs,
        environment={evil: evil},
    )
    html = render_page(report)
    page = Page(html)
    assert "<script>alert" not in html
    assert html.count("<script") == 1
    assert page.text.count(evil) >= 12
    assert page.open == []


def test_json(tmp_path: Path) -> None:
    html_path, json_path = write_report(example_report(), tmp_path)
    assert (html_path.name, json_path.name) == ("report.html", "report.json")
    written = json.loads(json_path.read_text(encoding="utf-8"))
    assert written["format"] == FORMAT == "ddrl-report/1"
    assert list(written["runs"]) == ["base", "ddrl", "none"]
    none = written["runs"]["none"]
    assert none["heldout_loss_change"] == 1.26
    assert none["intervals"]["reward"] == [-0.05, -0.02]
    assert none["verdict"]["status"] == "hacked"
    assert none["verdict"]["alarms"][0] == "heldout_loss_change"
    assert {"reward", "judge_accuracy", "frechet", "diversity"} < set(none)
    assert written["runs"]["base"]["heldout_loss_change"] == 0.0
    assert written["runs"]["ddrl"]["curves"]["evaluations"][-1] == [150, -0.021]


def test_numbers_that_are_not_finite_are_null_and_said(tmp_path: Path) -> None:
    example = example_report()
    broken = dataclasses.replace(example.runs[1], heldout_loss_change=float("nan"))
    report = dataclasses.replace(example, runs=(example.runs[0], broken, example.runs[2]))
    html_path, json_path = write_report(report, tmp_path)
    assert json.loads(json_path.read_text())["runs"]["ddrl"]["heldout_loss_change"] is None
    text = plain(Page(html_path.read_text()).text)
    assert "the diffusion loss on held-out data could not be measured" in text
    assert "not measured" in text


def test_a_bare_report(tmp_path: Path) -> None:
    example = example_report()
    report = Report(title="Base alone", created="", prompts=(), runs=example.runs[:1])
    page = Page(write_report(report, tmp_path)[0].read_text())
    assert page.open == []
    assert "shows the base alone" in page.text
    assert "The samples" not in page.text
    assert "The curves" not in page.text


def test_large_colour_pictures_and_long_prompts_are_shown_smaller() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (1, 2, 300, 400, 3), dtype=np.uint8)
    report = dataclasses.replace(
        example_report(),
        prompts=("a photograph of a lighthouse in a storm",),
        samples={"ddrl": pictures},
        real=None,
    )
    html = render_page(report)
    assert html.count("data:image/jpeg") == 2  # no base to set regressions beside
    assert 'class="grids long"' in html


def test_a_second_report_replaces_the_first_and_leaves_nothing_beside(tmp_path: Path) -> None:
    write_report(example_report(), tmp_path / "deep" / "er")
    again = dataclasses.replace(example_report(), title="Second")
    html_path, _ = write_report(again, tmp_path / "deep" / "er")
    assert "<h1>Second</h1>" in html_path.read_text(encoding="utf-8")
    assert {path.name for path in html_path.parent.iterdir()} == {"report.html", "report.json"}
    assert stat.S_IMODE(html_path.stat().st_mode) == 0o644


def test_a_full_disk_keeps_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    html_path, _ = write_report(example_report(), tmp_path)
    old = html_path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_report(dataclasses.replace(example_report(), title="Second"), tmp_path)
    assert html_path.read_bytes() == old
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.json"}


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match="can't be written"):
        write_report(example_report(), tmp_path / "taken")


def test_reports_that_make_no_sense() -> None:
    example = example_report()
    base, ddrl, _ = example.runs
    with pytest.raises(DataError, match="exactly one base model, not 0"):
        dataclasses.replace(example, runs=(ddrl,))
    with pytest.raises(DataError, match="Two runs of the report are called 'ddrl'"):
        dataclasses.replace(example, runs=(base, ddrl, ddrl))
    with pytest.raises(DataError, match="samples of 'other'"):
        dataclasses.replace(example, samples={"other": example.samples["ddrl"]})
    with pytest.raises(DataError, match="not uint8"):
        dataclasses.replace(example, samples={"ddrl": example.samples["ddrl"].astype(np.float64)})
    with pytest.raises(DataError, match=r"not uint8 \(10 prompts"):
        dataclasses.replace(example, samples={"ddrl": example.samples["ddrl"][:9]})
    samples = {**example.samples, "ddrl": example.samples["ddrl"][:, :4]}
    with pytest.raises(DataError, match="different numbers of seeds"):
        dataclasses.replace(example, samples=samples)


def test_pixels_stand_on_one_scale(html: str) -> None:
    page = Page(html)
    scales = {
        str(attrs["aria-label"]).partition(",")[0]: plain(str(attrs["aria-label"]))
        for _, attrs in page.tags
        if attrs.get("class") == "scale" and "aria-label" in attrs
    }
    # Grey pictures have no saturation, as their data has none: nothing is drawn.
    assert list(scales) == ["brightness", "contrast", "dark fraction"]
    assert scales["brightness"].endswith("Base model: 0.20; DDRL: 0.30; No regularizer: 2.50")
    dots = [attrs for _, attrs in page.tags if str(attrs.get("class", "")).startswith("dot")]
    assert [attrs["title"] for attrs in dots if "far" in str(attrs["class"])] == [
        "No regularizer: 2.50"
    ]


def test_prompts_that_lost_show_both_models(html: str) -> None:
    page = Page(html)
    text = plain(page.text)
    assert "eight judge 71 % → 69 %, reward -5.0 → -0.5 lost" in text
    assert "one judge 50 % → 62 %, reward -5.0 → -0.5" in text
    alts = [attrs["alt"] for tag, attrs in page.tags if tag == "img"]
    place = alts.index("Base model, eight, seed 1", alts.index("No regularizer, nine, seed 8"))
    assert alts[place + 6] == "DDRL, eight, seed 1"


def test_measures_that_only_some_runs_have_get_columns() -> None:
    example = example_report()
    ink = Measured(name="ink", kind="held-out reward", value=Interval(0.25, 0.2, 0.3))
    runs = [
        dataclasses.replace(run, measures=(*run.measures, ink), temporal_change=Interval.exact(0.4))
        for run in example.runs
    ]
    text = plain(Page(render_page(dataclasses.replace(example, runs=tuple(runs)))).text)
    assert "More measures" in text
    assert "A held-out reward, which training never saw." in text
    assert "Change between frames" in text
    assert "Temporal Fréchet" not in text
    assert "More measures" not in plain(Page(render_page(example)).text)


def test_json_of_the_audits_further_figures() -> None:
    none = as_json(example_report())["runs"]["none"]
    assert none["vendi"] == 0.38
    assert none["temporal_change"] is None
    assert none["measures"]["judge_accuracy"]["change"] == 0.524
    assert none["pixels"]["brightness"]["difference"] == pytest.approx(2.5)
    assert none["regressions"][0]["measures"] == {"judge_accuracy": [0.5, 0.98]}


def test_clips_move() -> None:
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (2, 2, 5, 8, 8, 3), dtype=np.uint8)
    example = example_report()
    html = render_page(dataclasses.replace(example, clips={"ddrl": clips}))
    assert html.count("data:image/gif") == 4
    first = re.search(r"data:image/gif;base64,([^\"]*)", html)
    assert first is not None
    with Image.open(io.BytesIO(base64.b64decode(first[1]))) as image:
        assert image.format == "GIF"
        assert getattr(image, "n_frames", 1) == 5
        assert max(image.size) == 128


def test_cards_show_what_decided_and_on_how_much(html: str) -> None:
    text = plain(Page(html).text)
    cards = text[: text.index("The numbers")]
    assert "Reward +5.5 -6.1 → -0.6, 95 %: +5.1 to +5.9 500 samples of 10 prompts" in cards
    assert "Held-out loss -2.1 % mark: +10 % 597 held-out samples of 10 prompts" in cards
    assert (
        "Held-out loss +126.0 % mark: +10 % 597 held-out samples of 10 prompts Every sign (5)"
        in cards
    )
    # What did not decide stands in the sentence, behind the hint, and nowhere else.
    assert cards.count("Vendi") == 1


def test_the_effective_number_is_told_beside_that_of_real_data(html: str) -> None:
    text = plain(Page(html).text)
    assert "Vendi score real data: 1 = 5.1 samples" in text
    assert "as a share of real data's, which has 5.1 at as many samples" in text
    assert as_json(example_report())["runs"]["base"]["real_vendi"] == 5.08
