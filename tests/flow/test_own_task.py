"""A task, a family and a reward of the user's, one file each: the pages' examples, end to end."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.cli.command import ddrl, metrics_of
from tests.flow.aura_flow import build_pipeline
from tests.flow.diffusers_jobs import Job, image_size
from tests.flow.test_diffusers import write_picture
from tests.flow.test_own_family import PYTHON as FAMILY

from ddrl.builders.tasks.embedded import EmbeddedTask
from ddrl.builders.tasks.table import task_of
from ddrl.models.tiny.model import TinyModel
from ddrl.recipe import parse_recipe
from ddrl.records import Prompts

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tasks.md").read_text("utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
BARS, TASK = "my_package.bars:Bars", "my_package.bars:MeasuredBars"
REWARD = '''\
"""A reward of the user's."""

from ddrl.rewards.base import Reward


class Corner(Reward):
    """How bright the first pixel is."""

    def score(self, media, prompts):
        return media[..., 0, 0].flatten(1).mean(1)
'''
OTHERS = """\
import torch

from ddrl.builders.tasks.embedded import EmbeddedTask
from ddrl.builders.tasks.files import Files
from ddrl.data.embedded.sources import CaptionedMedia, Splits
from my_package.bars import Bars


def cut(media, ids=None, captions=("a", "b")):
    ids = torch.arange(len(media)) % 2 if ids is None else ids
    return Splits.cut(CaptionedMedia(media, ids, captions), 20, name="odd")


class Clips(EmbeddedTask):
    def make_splits(self):
        return cut(torch.rand(40, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)))


class Nothing(EmbeddedTask):
    pass


class NotSplits(EmbeddedTask):
    def make_splits(self):
        return [1]


class Grey(EmbeddedTask):
    def make_splits(self):
        return cut(torch.zeros(40, 1, 8, 8))


class Bytes(EmbeddedTask):
    def make_splits(self):
        return cut(torch.full((40, 3, 8, 8), 255.0))


class Ids(EmbeddedTask):
    def make_splits(self):
        return cut(torch.zeros(40, 3, 8, 8), torch.full((40,), 2))


class Captions(Bars):
    def make_splits(self):
        splits = super().make_splits()
        other = CaptionedMedia(splits.judge.media, splits.judge.caption_id, ("x", "y"))
        return Splits(splits.train, splits.heldout, splits.reward, other)


class Mine(Files):
    pass


def function():
    pass
"""
RECIPE = """\
[model]
width = 16
depth = 1

[model.pretrain]
steps = 20

[data]
source = "my_package.bars:MeasuredBars"

[[reward]]
name = "my_package.corner:Corner"

[rollout]
prompts_per_step = 2
group_size = 4
steps = 3

[evaluation]
every = 2
prompts = 2
samples_per_prompt = 4
steps = 2

[run]
steps = 2
checkpoint_every = 2
tensorboard = false
device = "cpu"
folder = "run"
cache = "cache"
"""


def forget() -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "my_package"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, which is nowhere on the path, and the recipe beside it."""
    root = tmp_path_factory.mktemp("own")
    package = root / "my_package"
    package.mkdir()
    (package / "bars.py").write_text(PYTHON[0] + PYTHON[1])
    (package / "aura_flow.py").write_text(FAMILY[0])
    (package / "corner.py").write_text(REWARD)
    (package / "others.py").write_text(OTHERS)
    (root / "recipe.toml").write_text(RECIPE)
    return root


@pytest.fixture(autouse=True)
def working_folder(base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(base)
    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def run(base: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        result = ddrl("train", "recipe.toml")
    forget()
    assert result.code == 0, result.stderr
    return base / "run"


def test_the_page_names_it() -> None:
    assert f'source = "{BARS}"' in PAGE


def test_a_plan_makes_nothing(base: Path) -> None:
    result = ddrl("train", "recipe.toml", "run.folder=planned", "run.cache=none", "--dry-run")
    assert result.code == 0, result.stderr
    assert "at the peak" in result.stdout
    assert not (base / "planned").exists()
    assert not (base / "none").exists()


def test_it_is_trained_and_goes_on_under_other_code(base: Path, run: Path) -> None:
    assert len(metrics_of(run)) == 2
    assert "heldout_loss_change" in metrics_of(run)[1]
    again = ddrl("train", "recipe.toml", "run.steps=3")
    assert (again.code, "other code" in again.stderr) == (0, False), again.stderr
    file = base / "my_package" / "bars.py"
    before, made = file.read_text(), set((base / "cache").glob("base-*"))
    file.write_text(before + "\n# another thought\n")
    forget()
    try:
        other = ddrl("train", "recipe.toml", "run.steps=4")
    finally:
        file.write_text(before)
    assert other.code == 0, other.stderr
    assert f"other code of {TASK}" in other.stderr
    assert len(set((base / "cache").glob("base-*")) - made) == 1


def test_other_data_are_refused(base: Path, run: Path) -> None:
    file = base / "my_package" / "bars.py"
    before = file.read_text()
    file.write_text(before.replace("manual_seed(0)", "manual_seed(1)"))
    forget()
    try:
        result = ddrl("train", "recipe.toml", "run.steps=9")
    finally:
        file.write_text(before)
    result.failed(5, "was trained on another base")


def test_what_reads_it_runs_no_code_unasked(run: Path, tmp_path: Path) -> None:
    for command in ("sample", "evaluate", "export"):
        ddrl(command, run).failed(2, f"Task {TASK!r} can't be loaded", "--allow-code")
    sample = ("sample", run, "--prompt", "a lying bar", "--num", "1", "--out", tmp_path / "samples")
    result = ddrl(*sample, "--allow-code")
    assert result.code == 0, result.stderr
    assert image_size(tmp_path / "samples" / "000-a-lying-bar-0.png") == (64, 64)
    result = ddrl("evaluate", run, "--allow-code")
    assert result.code == 0, result.stderr
    report = json.loads((run / "evaluation" / "report.json").read_text())
    assert {"judge_accuracy", "width"} <= set(report["runs"]["base"]["measures"])
    result = ddrl("export", run, "--allow-code", "--out", tmp_path / "export")
    assert result.code == 0, result.stderr
    exported = TinyModel.load(tmp_path / "export")
    assert exported.config.vocabulary == ("a lying bar", "a standing bar")


def test_its_judge_takes_data_and_a_judge_of_ones_own_stands_beside(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(base)
    task = task_of(parse_recipe(RECIPE))
    assert isinstance(task, EmbeddedTask)
    jury, data = task.jury(), task.splits.heldout
    prompts = Prompts.numbered(data.captions).select(data.caption_id.tolist())
    found = {name: judge(data.media, prompts) for name, judge in jury.judges.items()}
    assert list(found) == ["judge_accuracy", "width"]
    assert float(found["judge_accuracy"].mean()) > 0.95
    assert torch.equal(found["width"], torch.where(data.caption_id == 0, 1.0, 0.25))


def test_a_reward_is_audited_on_its_data() -> None:
    audit = ("reward", "audit", "my_package.corner:Corner", "--data", TASK, "--limit", "12")
    result = ddrl(*audit, "--json")
    assert result.code == 0, result.stderr
    assert json.loads(result.stdout)["reward"] == "my_package.corner:Corner"
    ddrl(*audit[:4], "my_package.others:Mine").failed(2, "is not embedded")


def test_nothing_is_encoded_ahead() -> None:
    ddrl("data", "encode", "recipe.toml").failed(2, "a task of your own: there is nothing")


def test_a_family_and_a_reward_from_the_same_package(base: Path, tmp_path: Path) -> None:
    """On files: the family is of a pipeline, and the task of captioned media."""
    job = Job.make(tmp_path, build_pipeline(), write_picture, side=16)
    mine = ("model.family=my_package.aura_flow:AuraFlow", "reward.0.name=my_package.corner:Corner")
    task = "data.source=my_package.others:Mine"  # of the user's, too, and of this family
    job.train(tmp_path / "own", *mine, task)
    run = tmp_path / "own" / "run"
    assert len(metrics_of(run)) == 2
    out = ("--num", "1", "--prompt", "a", "--out", tmp_path / "samples")
    assert ddrl("sample", run, "--allow-code", *out).code == 0
    assert image_size(tmp_path / "samples" / "000-a-0.png") == (16, 16)
    assert ddrl("evaluate", run, "--allow-code").code == 0
    result = ddrl("export", run, "--allow-code", "--out", tmp_path / "export")
    assert result.code == 0, result.stderr
    assert "AuraFlowPipeline" in (tmp_path / "export" / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "code", "phrases"),
    [
        (["my_package.bar:Bars"], 2, ["no module 'my_package.bar'"]),
        (["my_package.bars:Bar"], 2, ["has no Bar", "did you mean my_package.bars:Bars"]),
        (["my_package.others:function"], 2, ["is no task", "derive it"]),
        (["my_package.others:Nothing"], 2, ["has no make_splits", "add it to Nothing"]),
        (["my_package.others:NotSplits"], 3, ["gives a list", "Splits.cut"]),
        (["my_package.others:Grey"], 3, ["media of shape (20, 1, 8, 8)", "float32 pixels"]),
        (["my_package.others:Bytes"], 3, ["pixels from 255 to 255", "scale them"]),
        (["my_package.others:Ids"], 3, ["no position in its captions"]),
        (["my_package.others:Captions"], 3, ["other captions in judge than in train"]),
        (["my_package.others:Mine"], 2, ["model.family tiny", 'set model.family = "diffusers"']),
        ([TASK, "data.given_frames=1"], 3, ["has media of 1 frames"]),
        (["my_package.others:Clips"], 2, ['clips need network = "dit"']),
    ],
)
def test_what_is_wrong_is_said_before_training(
    changes: list[str], code: int, phrases: list[str]
) -> None:
    source, *more = changes
    ddrl("train", "recipe.toml", f"data.source={source}", *more, "--dry-run").failed(code, *phrases)


def test_clips_without_a_judge(base: Path) -> None:
    changes = ("data.source=my_package.others:Clips", "model.network=dit", "model.heads=2")
    result = ddrl(
        "train", "recipe.toml", *changes, "run.folder=clips", "evaluation.panel_samples=4"
    )
    assert result.code == 0, result.stderr
    assert "audit/frechet" in metrics_of(base / "clips")[1]
    more = ("run.folder=other", "reward.0.name=classifier")
    ddrl("train", "recipe.toml", *changes, *more).failed(4, "'classifier' looks at images")
