"""A run on disk: which weights, which step, which metrics, and the base inside of it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from tests.cli.command import ddrl, write_recipe
from torch import Tensor, nn

from ddrl.builders.verify import DataRow
from ddrl.errors import CheckpointError
from ddrl.runs.loaded import Weights, load_run
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.manifest import read_manifest


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps, with checkpoints of steps 2 and 4; not to be changed."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = write_recipe(folder, tmp_path_factory)
    result = ddrl("train", recipe, "rollout.guidance=1.5", "optimizer.learning_rate=0.01")
    assert result.code == 0, result.stderr
    return folder / "run"


@pytest.fixture
def own(run: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def weights_of(network: nn.Module, names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in network.named_parameters() if n in names}


def same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("weights", "file"), [("ema", "ema"), ("raw", "model")])
@pytest.mark.parametrize("step", [2, None])
def test_the_weights_that_are_asked_for(
    weights: Weights, file: str, step: int | None, run: Path
) -> None:
    loaded = load_run(run, step=step, weights=weights)
    saved = read_manifest(run / f"checkpoints/step-{step or 4:08d}").tensors(file)
    assert same(weights_of(loaded.model.transformer, saved), saved)
    assert loaded.step == (step or 4)
    assert [row["step"] for row in loaded.metrics] == list(range(1, loaded.step + 1))
    assert loaded.forward.guidance == 1.5
    assert not any(p.requires_grad for p in loaded.model.transformer.parameters())


def test_the_base_of_a_run(run: Path) -> None:
    base = load_run(run, weights="base")
    assert (base.step, base.metrics) == (0, [])
    assert same(weights_of(base.model.transformer, base.start), base.start)
    trained = load_run(run)
    network = trained.model.transformer
    assert same(trained.start, base.start)
    after = weights_of(network, trained.start)
    assert not same(after, base.start)
    with suppress(ZeroDivisionError), trained.as_base():
        assert same(weights_of(network, base.start), base.start)
        raise ZeroDivisionError
    assert same(weights_of(network, base.start), after), "also where something fails inside"


def test_averages_that_are_mostly_the_start_are_told(
    own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_run(own)
    assert "averaged weights that hold about 12 % of its change: it has 4 updates" in caplog.text
    caplog.clear()
    load_run(own, weights="raw")
    load_run(own, weights="base")
    recipe = own / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("ema_warmup = false", "ema_warmup = true"))
    load_run(own)
    assert "averaged weights" not in caplog.text


def test_the_best_is_a_step(own: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint that is marked as the best"):
        load_run(own, step="best")
    CheckpointFolder(own / "checkpoints").annotate(2, {"audits": {"step": 2, "score": 0.5}})
    assert load_run(own, step="best").step == 2


def test_a_step_that_is_not_there_is_told_with_those_that_are(run: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint of step 3") as caught:
        load_run(run, step=3)
    assert caught.value.hint == "it has 2, 4"


def test_data_of_the_run_and_other_data(run: Path) -> None:
    loaded = load_run(run)
    rows = loaded.corpus.rows
    loaded.check_data(rows)
    with pytest.raises(CheckpointError, match="was trained on other data"):
        loaded.check_data([*rows, DataRow("more", "more", "more", is_heldout=False)])


def test_another_embedded_base_matters_where_its_weights_do(
    own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in own.glob("checkpoints/*/manifest.json"):
        manifest = json.loads(path.read_text())
        manifest["notes"]["identity"]["base"]["network"] = "another"
        path.write_text(json.dumps(manifest))
    with caplog.at_level(logging.WARNING):
        assert load_run(own).step == 4
    assert "its own weights do not depend on it" in caplog.text
    for options in ({"needs_base": True}, {"weights": "base"}):
        with pytest.raises(CheckpointError, match="network differs"):
            load_run(own, **options)
