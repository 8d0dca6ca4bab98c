"""``ddrl export --push``: what arrives at a hub is the folder, and what it refuses is told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from tests.cli.command import Result, contents, ddrl
from tests.cli.hub_server import HubServer, Repository, hub_server

NAME = "alice/ink"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A hub that the client talks to, with alice's token, and without xet, which is no HTTP."""
    with hub_server() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        monkeypatch.setenv("HF_TOKEN", "hf_writes")
        yield server


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def push(run: Path, out: Path, *more: str, name: str = NAME) -> Result:
    return ddrl("export", run, "--out", out, "--push", name, *more)


def test_what_arrives_is_the_folder(hub: HubServer, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = push(finished, out)
    assert result.code == 0, result.stderr
    assert result.stdout.splitlines() == [str(out / "README.md"), f"{hub.url}/{NAME}"]
    assert f"{NAME} is a new repository, private" in result.stderr
    made = hub.repositories[NAME]
    assert made.files == files_of(out)
    assert {"README.md", "export.json"} < made.files.keys()
    assert made.private
    assert made.commits == ["run, step 4, averaged weights, by ddrl"]


def test_nothing_goes_up_unless_asked(hub: HubServer, finished: Path, tmp_path: Path) -> None:
    assert ddrl("export", finished, "--out", tmp_path / "out").code == 0
    assert hub.requests == []
    ddrl("export", finished, "--public").failed(2, "--public is for --push", "--push OWNER/NAME")


def test_on_top_of_what_is_there(hub: HubServer, finished: Path, tmp_path: Path) -> None:
    hub.repositories[NAME] = Repository(True, {"notes.txt": b"mine", "README.md": b"old"}, ["x"])
    out = tmp_path / "out"
    result = push(finished, out)
    assert result.code == 0, result.stderr
    assert "a new commit on top; its other files stay: notes.txt\n" in result.stderr
    made = hub.repositories[NAME]
    assert made.files == {**files_of(out), "notes.txt": b"mine"}
    assert len(made.commits) == 2
    assert hub.count("POST /api/repos/create") == 0
    again = push(finished, out, "--public")  # nothing is new, and nothing becomes public
    assert again.code == 0
    assert "stays so: --public is for new ones" in again.stderr
    assert made.private
    assert len(made.commits) == 2


def test_public_is_asked_for(hub: HubServer, finished: Path, tmp_path: Path) -> None:
    hub.repositories[NAME] = Repository(private=False)
    out = tmp_path / "out"
    push(finished, out).failed(2, f"{NAME} is there, and everyone may read it", "--public")
    assert not out.exists()
    assert hub.repositories[NAME].files == {}
    assert push(finished, out, "--public").code == 0
    assert push(finished, out, "--public", name="alice/new").code == 0
    assert not hub.repositories["alice/new"].private
    assert hub.repositories["alice/new"].files == files_of(out)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("ink", "--push OWNER/ink"),
        ("alice/", "--push OWNER/NAME"),
        ("/ink", "--push OWNER/ink"),
        ("alice/ink/more", "--push OWNER/more"),
        ("alice/my ink!", "--push OWNER/my-ink"),
        ("alice/ink.git", "--push OWNER/"),
        ("alice/ink@main", "--push OWNER/ink-main"),
        ("./out", "--push OWNER/out"),
    ],
)
def test_names(hub: HubServer, finished: Path, tmp_path: Path, name: str, advice: str) -> None:
    phrase = f'"{name}" is not a name of a repository'
    push(finished, tmp_path / "out", name=name).failed(2, phrase, advice)
    assert hub.requests == []
    assert not (tmp_path / "out").exists()


def test_what_the_hub_refuses_before_anything_is_written(
    hub: HubServer, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("HF_TOKEN", "hf_reads")
    push(finished, out).failed(2, "token of alice: the token may only read", "hf auth login")
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    push(finished, out).failed(2, "the hub does not know the token", "hf auth login")
    monkeypatch.delenv("HF_TOKEN")
    push(finished, out).failed(2, "there is no token of the hub here", "hf auth login")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    push(finished, out).failed(2, "HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_writes")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    push(finished, out).failed(2, "the hub can't be reached", "where there is a network")
    assert not out.exists()
    assert hub.repositories == {}


def test_no_right(hub: HubServer, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = push(finished, out, name="bob/ink")
    result.failed(2, "bob/ink can't be written with this token of alice", "--push alice/ink")
    assert f"the export is whole in {out}" in result.stderr
    assert (out / "README.md").exists()


FAULTS = {
    "commit": ("POST /api/models/alice/ink/commit", 500, "Internal Error"),
    "blob": ("PUT /blobs/", 507, "No space"),
    "batch": ("POST /alice/ink.git/info/lfs", 413, "Storage quota exceeded"),
    "busy": ("POST /api/repos/create", 503, "Come back later"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_midway_loses_nothing(
    hub: HubServer, finished: Path, tmp_path: Path, fault: str
) -> None:
    request, status, words = FAULTS[fault]
    out = tmp_path / "out"
    hub.faults[request] = (status, words)
    push(finished, out).failed(2, f"the hub says {status} ({words})", f"is whole in {out}", "again")
    assert hub.repositories.get(NAME, Repository(True)).files == {}
    whole = contents(out)
    hub.faults.clear()
    sent = hub.count("PUT /blobs/")
    assert push(finished, out).code == 0
    assert hub.repositories[NAME].files == files_of(out)
    assert contents(out) == whole
    assert hub.count("PUT /blobs/") - sent == (0 if fault == "commit" else 1)


def test_what_a_repository_ignores_is_told(hub: HubServer, finished: Path, tmp_path: Path) -> None:
    hub.repositories[NAME] = Repository(True, {".gitignore": b"config.json"})
    push(finished, tmp_path / "out").failed(2, "has not kept config.json", "remove the .gitignore")


def test_files_of_others_stay_here(hub: HubServer, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert push(finished, out).code == 0
    (out / "diary.txt").write_text("mine")
    assert push(finished, out).code == 0
    assert "diary.txt" not in hub.repositories[NAME].files


def test_as_a_user_has_it(hub: HubServer, finished: Path, tmp_path: Path) -> None:
    """In processes of their own, with the client's own settings; the card's lines read it back."""
    out = tmp_path / "out"
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    env |= {"HF_HUB_CACHE": str(tmp_path / "cache")}

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)

    command = ("-m", "ddrl", "export", str(finished), "--push", NAME, "--out", str(out))
    done = python(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{hub.url}/{NAME}"
    assert hub.repositories[NAME].files == files_of(out)
    code = (out / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    assert f'snapshot_download("{NAME}")' in code
    done = python("-c", f'{code}model.save(Path("{tmp_path}/again"))')
    assert done.returncode == 0, done.stderr
    again = files_of(tmp_path / "again")
    assert again == {name: files_of(out)[name] for name in again}
    assert "model.safetensors" in again
