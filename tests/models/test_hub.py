"""What is no folder here: a path that leads nowhere, or an id that the hub is asked for once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants
from tests.cli.hub_server import hub_server

from ddrl.disk import may_be_hub_id
from ddrl.errors import WeightsError
from ddrl.evaluation.measures.encoder import load_vision_encoder
from ddrl.models.files import hub
from ddrl.models.pretrained import load_model
from ddrl.models.sketch import sketch_model
from ddrl.rewards.networks.videoreward_files import find_folder
from ddrl.rewards.networks.weight_files import find_file

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


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "GatedRepo", "is not open to everyone"),
        (404, "RepoNotFound", "no model of this name on the hub"),
        (404, "EntryNotFound", "the hub has no model_index.json"),
        (404, "RevisionNotFound", "owner/name has no revision v1"),
    ],
)
def test_what_the_hub_refuses(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, words: str
) -> None:
    with hub_server() as server:
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        server.faults["HEAD /owner/name/resolve/v1/model_index.json"] = (status, "no", code)
        with pytest.raises(WeightsError, match=words) as caught:
            hub.ask_hub("owner/name@v1")
    assert len(server.requests) == 1
    assert "huggingface.co/owner/name" in caught.value.hint or "RepoNotFound" in code


def test_what_the_cache_holds_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="owner/name is not here"):
        hub.ask_hub("owner/name")
    folder = tmp_path / "models--owner--name"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0a1b")
    (folder / "snapshots" / "0a1b").mkdir(parents=True)
    (folder / "snapshots" / "0a1b" / "model_index.json").write_text("{}")
    hub.ask_hub("owner/name")


def test_the_reason_may_be_behind_another() -> None:
    """Diffusers and transformers wrap what the hub's client says."""
    outer = RuntimeError("can't load")
    outer.__cause__ = ConnectionError("no way")
    found = hub.hub_problem(outer, "owner/name")
    assert found is not None
    assert "can't be reached" in found.message
    assert hub.hub_problem(RuntimeError("other"), "owner/name") is None
