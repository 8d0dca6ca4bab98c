"""What is no folder here: a path that leads nowhere, or an id that the hub is asked for once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ddrl.disk import may_be_hub_id
from ddrl.errors import WeightsError
from ddrl.evaluation.encoder import load_vision_encoder
from ddrl.models import hub
from ddrl.models.pretrained import load_model
from ddrl.models.sketch import sketch_model
from ddrl.rewards.videoreward_files import find_folder
from ddrl.rewards.weight_files import find_file

NOWHERE = [
    "./x",
    "../x",
    "models/sd3/x",
    "/nowhere/x",
    "x",
    "~/x",
    "made/x",
    "a b/c",
    ".",
    "x/",
    "",
]
CALLS: dict[str, Callable[[str], object]] = {
    "load": load_model,
    "sketch": sketch_model,
    "encoder": load_vision_encoder,
    "weights": lambda path: find_file(path, "weights.pt"),
    "folder": find_folder,
}


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made" / "sd35").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", NOWHERE)
def test_a_path_is_no_id(path: str) -> None:
    assert not may_be_hub_id(path)


@pytest.mark.parametrize(
    "name", ["owner/name", "owner/name@main", "owner/na.me-1@refs/pr/3", "0-x/y_z"]
)
def test_owner_and_name_may_be_an_id(name: str) -> None:
    assert may_be_hub_id(name)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("path", ["./x", "models/sd3/x", "/nowhere/x", "made/x"])
def test_a_path_that_leads_nowhere_is_found_at_once(call: str, path: str) -> None:
    start = time.perf_counter()
    with pytest.raises(WeightsError, match=rf"There is no (file or )?folder {path}"):
        CALLS[call](path)
    assert time.perf_counter() - start < 10  # importing what loads; the hub's retries take 23 s


def test_a_folder_of_nearly_that_name_is_named() -> None:
    assert "did you mean made/sd35?" in hub.missing_folder("made/sd3").hint
    assert "model.path=PATH" in hub.missing_folder("/nowhere/x").hint
