"""``ddrl data synthesize``: what is made, what is found again, and what can be read back."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from PIL import Image
from tests.cli.command import (
    contents,
    ddrl,
    finish,
    metrics_of,
    shared_cache,
    spawn,
    write_recipe,
)
from tests.flow.test_stop_and_resume import assert_same

from ddrl.data.layouts.files import find_samples, usable

SMALL = ("data.anchor=synthetic", "data.synthetic.per_prompt=2")


@pytest.fixture
def own(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest recipe, with a cache of its own that has the base model already."""
    recipe = write_recipe(tmp_path, tmp_path_factory)
    shared = shared_cache(tmp_path_factory)
    text = recipe.read_text().replace(str(shared), str(tmp_path / "cache"))
    recipe.write_text(text)
    for folder in shared.glob("[bc]*"):
        shutil.copytree(folder, tmp_path / "cache" / folder.name)
    return recipe


def lines(*arguments: str | Path) -> list[str]:
    result = ddrl("data", "synthesize", *arguments)
    assert result.code == 0, result.stderr
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_training_finds_what_was_made(own: Path) -> None:
    result = ddrl("data", "synthesize", own, *SMALL)
    assert result.code == 0, result.stderr
    assert result.stdout == "prompts  10\nsamples  20 made, 0 reused\n"
    assert "samples of the base 20/20" in result.stderr
    assert lines(own, *SMALL)[1] == "samples 0 made, 20 reused"
    assert lines(own, *SMALL, "data.synthetic.per_prompt=3")[1] == "samples 10 made, 20 reused"
    trained = ddrl("train", own, *SMALL)
    assert trained.code == 0, trained.stderr
    assert "samples of the base" not in trained.stderr


def test_a_folder_of_captioned_media(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert lines(own, *SMALL, "--out", out)[-1] == str(out)
    samples = usable(find_samples(out), on_broken="stop")
    assert len(samples) == 20
    assert sorted({sample.caption for sample in samples}) == sorted(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
    record = json.loads(next(out.glob("three-*.json")).read_text())
    assert (record["caption"], record["sampler"], record["seed"]) == ("three", "sde", 0)
    assert len(record["noise"]) == 3
    with Image.open(next(out.glob("three-*.png"))) as image:
        assert image.size == (8, 8)
    before = contents(out)
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    lines(own, *SMALL, "--out", out)
    assert contents(out) == before
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times


def test_a_folder_holds_one_set(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lines(own, *SMALL, "--out", out)
    one = contents(out)
    lost = sorted(out.glob("*.png"))[3]
    lost.unlink()  # what a kill between a record and its picture leaves
    (out / ".writing-x.png").write_bytes(b"half")
    lines(own, *SMALL, "--out", out)
    assert contents(out) == one
    lines(own, *SMALL, "data.synthetic.seed=1", "--out", out)
    other = contents(out)
    assert len(other) == len(one)
    assert not other.keys() & one.keys()


def test_any_recipe_can_be_written_out(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lines(own, "data.synthetic.per_prompt=1", "data.synthetic.sampler=ode", "--out", out)
    assert len(usable(find_samples(out), on_broken="stop")) == 10


def test_what_can_not_be_made(own: Path, tmp_path: Path) -> None:
    ddrl("data", "synthesize", own).failed(2, "data.anchor is paired", "--out FOLDER")
    ddrl("data", "synthesize", own, *SMALL, "objective.regularizer=none").failed(2, "is none")
    ddrl("data", "synthesize", own, "data.synthetic.sampler=sd").failed(2, "data.synthetic.sampler")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").write_bytes(b"dear")
    (tmp_path / "mine" / "photo.json").write_text('{"caption": "mine"}')
    mine = contents(tmp_path / "mine")
    ddrl("data", "synthesize", own, *SMALL, "--out", tmp_path / "mine").failed(2, "no sample of")
    assert contents(tmp_path / "mine") == mine
    ddrl("data", "synthesize", own, *SMALL, "--out", own).failed(2, "recipe.toml", "--out FOLDER")
    assert not (tmp_path / "cache" / "synthetic").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_was_stopped_goes_on(own: Path, tmp_path: Path, number: signal.Signals) -> None:
    # One sample a pass, so that there is time to stop it.
    many = ("data.anchor=synthetic", "data.synthetic.per_prompt=60", "run.micro_batch=1")
    lines(own, *SMALL)  # the base model is there
    media = tmp_path / "cache" / "synthetic" / "media"
    process = spawn("data", "synthesize", own, *many)
    try:
        while len(list(media.rglob("[0-9a-f]*.safetensors"))) < 60:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(number)
        stopped = finish(process)
    finally:
        process.kill()
    assert stopped.code in (130, -signal.SIGKILL)
    assert "Traceback" not in stopped.stderr
    _, counts = lines(own, *many)
    made, reused = (int(word) for word in counts.split() if word.isdigit())
    assert made + reused == 600
    assert reused >= 60
    assert made > 0


@pytest.mark.parametrize("anchor", ["synthetic", "mixed"])
def test_a_resumed_run_has_the_anchors_of_the_base(own: Path, tmp_path: Path, anchor: str) -> None:
    """Although the cache was lost and the weights have moved: they are drawn from the base."""
    how = (f"data.anchor={anchor}", "data.synthetic.per_prompt=2")
    assert ddrl("train", own, *how, f"run.folder={tmp_path / 'straight'}").code == 0
    assert ddrl("train", own, *how, "run.steps=2").code == 0
    shutil.rmtree(tmp_path / "cache" / "synthetic")
    resumed = ddrl("train", own, *how)
    assert resumed.code == 0, resumed.stderr
    assert "resuming after step 2" in resumed.stderr
    assert "samples of the base 20/20" in resumed.stderr
    assert metrics_of(tmp_path / "run") == metrics_of(tmp_path / "straight")
    first = [line["data_loss"] for line in metrics_of(tmp_path / "run")]
    assert len(first) == 4


KEPT = ("data.anchor=synthetic", "data.synthetic.keep=0.5")


def test_only_what_is_kept_is_written(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    few = (*KEPT, "data.synthetic.per_prompt=4")
    assert lines(own, *few, "--out", out)[1:3] == [
        "samples 40 made, 0 reused",
        "kept 20, the best by reward",
    ]

    def records() -> dict[str, float]:
        found = [json.loads(path.read_text()) for path in out.glob("*.json")]
        return {f"{one['caption']}/{one['sample']}": one["reward"] for one in found}

    best = records()
    assert len(best) == 20
    assert len(usable(find_samples(out), on_broken="stop")) == 20
    lines(own, *few, "reward.0.weight=-1", "--out", out)
    worst = records()
    assert len(worst) == 20
    assert not best.keys() & worst.keys()
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    lines(own, *few, "reward.0.weight=-3", "--out", out)
    assert records() == pytest.approx({name: 3 * reward for name, reward in worst.items()})
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.png")} == times
    lines(own, SMALL[0], "data.synthetic.per_prompt=4", "--out", out)
    assert not any("reward" in json.loads(path.read_text()) for path in out.glob("*.json"))


def test_the_number_follows_the_run(own: Path, tmp_path: Path) -> None:
    """Of 4 steps with 2 groups of 4, 10 prompts: each comes up once, so 4 of each are enough."""
    assert lines(own, SMALL[0])[1] == "samples 40 made, 0 reused"
    assert lines(own, SMALL[0], "run.steps=200")[1] == "samples 40 made, 40 reused"
    assert lines(own, *KEPT, "run.steps=200")[1:] == [
        "samples 80 made, 80 reused",
        "kept 80, the best by reward",
    ]
    trained = ddrl("train", own, *KEPT)
    assert trained.code == 0, trained.stderr
    assert "samples of the base" not in trained.stderr
    longer = ddrl("train", own, *KEPT, "run.steps=6")
    longer.failed(5, "run.steps: 4 -> 6", "data.synthetic.per_prompt = 0")
    fixed = ("data.synthetic.per_prompt=3", f"run.folder={tmp_path / 'fixed'}")
    assert ddrl("train", own, *KEPT, *fixed).code == 0
    assert ddrl("train", own, *KEPT, *fixed, "run.steps=6").code == 0


def test_a_resumed_run_keeps_the_same(own: Path, tmp_path: Path) -> None:
    """Although samples and scores were lost: the same are drawn and kept again."""
    assert ddrl("train", own, *KEPT).code == 0
    shutil.copytree(tmp_path / "run", tmp_path / "straight")
    (last,) = (tmp_path / "run" / "checkpoints").glob("step-*4")
    shutil.rmtree(last)
    shutil.rmtree(tmp_path / "cache" / "synthetic")
    resumed = ddrl("train", own, *KEPT)
    assert resumed.code == 0, resumed.stderr
    assert "resuming after step 2" in resumed.stderr
    assert "scores of samples" in resumed.stderr
    assert_same(tmp_path / "run", tmp_path / "straight")


def test_rewards_that_can_not_be_had(own: Path, tmp_path: Path) -> None:
    none = ddrl("data", "synthesize", own, *KEPT, "reward.0.name=inc")
    none.failed(4, "There is no reward named 'inc'", "'ink'")
    assert not (tmp_path / "cache" / "synthetic").exists()
    assert lines(own, *SMALL, "reward.0.name=inc")[1] == "samples 20 made, 0 reused"
