"""What TensorBoard and Weights & Biases are told: names in groups, pictures, words."""

from __future__ import annotations

import builtins
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)
from tensorboard.backend.event_processing.event_multiplexer import (  # type: ignore[import-untyped]
    EventMultiplexer,
)
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout  # type: ignore[import-untyped]

from ddrl.errors import UsageError
from ddrl.training.logs.dashboards import TensorBoardSink, WandbSink
from ddrl.training.logs.metrics import GLOSSARY, tag_of
from ddrl.training.logs.shown import Shown

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
SHOWN = Shown(20, "audit", tuple("abcdef"), PICTURES)
SENTENCE = "hacked: the reward rose, but look at it."


def read_events(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_files_are_readable(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path)
    for step in (1, 2, 3):
        sink.write({"reward": step / 4, "reward/ink": 1.0}, step=step)
    sink.close()
    assert read_events(tmp_path, "reward/mean") == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert read_events(tmp_path, "rewards/ink/mean") == [(1, 1.0), (2, 1.0), (3, 1.0)]


def test_tensorboard_hides_what_a_resumed_run_makes_again(tmp_path: Path) -> None:
    first = TensorBoardSink(tmp_path)
    for step in (1, 2, 3):
        first.write({"reward": 0.25}, step=step)
    first.close()
    second = TensorBoardSink(tmp_path, resume_at=1)
    for step in (2, 3):
        second.write({"reward": 0.5}, step=step)
    second.close()
    assert read_events(tmp_path, "reward/mean") == [(1, 0.25), (2, 0.5), (3, 0.5)]


def test_weights_and_biases_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_wandb(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "wandb":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_wandb)
    with pytest.raises(UsageError, match="wandb is not installed") as caught:
        WandbSink("project", name="run", config={})
    assert "ddrl[wandb]" in caught.value.hint


class Recorder:
    """Stands for the package wandb, which needs an account: keeps what it is told."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.summary: dict[str, str] = {}

    def init(self, **_settings: object) -> Recorder:
        return self

    def log(self, metrics: dict[str, Any], *, step: int) -> None:
        self.logged.append((step, metrics))

    def Image(self, pixels: Any, *, caption: str) -> tuple[tuple[int, ...], str]:  # noqa: N802
        return pixels.shape, caption


def test_weights_and_biases_gets_a_late_audit_at_its_newest_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", recorder)
    sink = WandbSink("project", name="run", config={})
    sink.write({"reward": 1.0}, step=3)
    sink.write({"audit/score": 0.5}, step=2)
    sink.write({"reward": 2.0}, step=4)
    assert recorder.logged == [
        (3, {"reward/mean": 1.0}),
        (3, {"audit/score": 0.5, "late/step": 2}),
        (4, {"reward/mean": 2.0}),
    ]


def test_every_metric_has_a_group_and_those_that_decide_come_first() -> None:
    names = [name.replace("*", "any/name") for name in GLOSSARY if name != "step"]
    tags = [tag_of(name) for name in names]
    assert len(set(tags)) == len(names), "no two metrics share a place"
    groups = sorted({tag.partition("/")[0] for tag in tags if "/" in tag})
    assert groups == ["audit", "drift", "loss", "optimizer", "policy", "reward", "rewards", "time"]
    assert all("/" in tag for tag in tags)


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("reward", "reward/mean"),
        ("reward/mean", "rewards/mean/mean"),
        ("reward_min/a/b", "rewards/a/b/min"),
        ("audit/held_out/judge_accuracy", "audit/held_out/judge_accuracy"),
        ("heldout_loss_change", "drift/heldout_loss_change"),
        ("seconds/rollout", "time/rollout"),
        ("new", "other/new"),
        ("new/one", "new/one"),
    ],
)
def test_names_in_dashboards(name: str, tag: str) -> None:
    assert tag_of(name) == tag


def test_tensorboard_names_the_run_after_its_folder_and_holds_words_and_pictures(
    tmp_path: Path,
) -> None:
    sink = TensorBoardSink(tmp_path / "digits", recipe="[run]\nsteps = 3\n")
    sink.write({"reward": 1.0}, step=20)
    sink.show(SHOWN, sentence=SENTENCE, step=20)
    sink.show(None, sentence="", step=40)
    sink.close()
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    assert list(runs.Runs()) == ["digits"]
    events = runs.GetAccumulator("digits")
    assert events.Tags()["images"] == ["samples/audit"]
    (picture,) = events.Images("samples/audit")
    # Six pictures of 8 pixels, enlarged to 64, in rows of four with gaps of 4.
    assert (picture.step, picture.width, picture.height) == (20, 4 * 68 - 4, 2 * 68 - 4)
    words = {tag: events.Tensors(tag)[0] for tag in events.Tags()["tensors"]}
    assert words["verdict/text_summary"].tensor_proto.string_val[0].decode() == SENTENCE
    assert words["verdict/text_summary"].step == 20
    recipe = words["recipe/text_summary"].tensor_proto.string_val[0].decode()
    assert recipe == "    [run]\n    steps = 3"
    layout = Layout.FromString(words["custom_scalars__config__"].tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == [
        "What decides",
        "Is training healthy",
    ]
    known = [tag_of(name.replace("*", "judge")) for name in GLOSSARY]
    for category in layout.category:
        for chart in category.chart:
            for tag in chart.multiline.tag:
                assert any(re.fullmatch(tag, one) for one in known), tag


def test_weights_and_biases_gets_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", recorder)
    sink = WandbSink("project", name="run", config={})
    sink.write({"reward": 1.0}, step=21)
    sink.show(SHOWN, sentence=SENTENCE, step=20)
    sink.show(None, sentence="", step=30)
    assert recorder.logged[1:] == [
        (21, {"samples/audit": ((132, 268, 3), "step 20: a, b, c, d, e, f")})
    ]
    assert recorder.summary == {"verdict": f"step 20: {SENTENCE}"}
