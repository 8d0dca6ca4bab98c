"""Rewards on Ray Serve through the command: load, faults, environments, training, and the end."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from tests.cli.command import ddrl, metrics_of, write_recipe
from tests.rewards.service_limits import SLOW, check_limits, short_folder, strange_folder
from tests.rewards.service_process import Service, service

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.base import SampleError, make_reward
from ddrl.rewards.remote import RemoteReward
from ddrl.rewards.wire.message import CONTENT_TYPE

pytestmark = pytest.mark.timeout(1200)

REWARDS = """
[[reward]]
name = "served:Bright"
replicas = 2
cpus = 0.25
batch_wait = 0.02

[[reward]]
name = "jpeg"
cpus = 0.25
"""
CLIENTS, REQUESTS = 8, 60
TOKEN = {"authorization": "Bearer secret"}


def pictures(count: int, *, seed: int = 0, size: int = 8) -> torch.Tensor:
    return torch.rand((count, 3, size, size), generator=torch.Generator().manual_seed(seed))


def prompts(first: int, count: int, text: str = "a") -> Prompts:
    return Prompts(torch.arange(first, first + count), (text,) * count, ({},) * count)


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "secret")


def remote(url: str, **options: Any) -> RemoteReward:
    return RemoteReward(url=url, token_env="SERVICE_TOKEN", **options)


def status(running: Service) -> dict[str, Any]:
    page = httpx.get(running.url("status"), headers=TOKEN, trust_env=False)
    assert page.status_code == 200, page.text
    found: dict[str, Any] = page.json()["rewards"]
    return found


def test_a_service(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One service for all checks: a Ray of its own takes longer to start than most of them."""
    ran = tmp_path / "ran"
    work = strange_folder(tmp_path, ran)
    with ExitStack() as stack:
        temporary = stack.enter_context(short_folder())
        env = {"RAY_AUTH_MODE": "disabled", "TMPDIR": str(temporary)}
        running = stack.enter_context(
            service(tmp_path, REWARDS + SLOW, cwd=work, keys="body_seconds = 2\n", env=env)
        )
        assert not ran.exists(), ran.read_text()
        check_limits(running, temporary)
        lines = running.stdout().splitlines()
        assert lines[0].split() == ["reward", "URL", "state", "replicas"]
        assert lines[1].split() == ["Bright", running.url("Bright"), "running", "2"]
        check_same_scores(running)
        check_refusals(running)
        check_failures(running)
        check_load_with_a_kill(running)
        check_training(running, tmp_path, tmp_path_factory)
        pids = running.pids()
        assert len(pids) > 8
        assert running.interrupt() == 130
        assert "stopped by SIGINT; nothing is left running" in running.stderr()
        end = time.monotonic() + 10
        while running.pids() and time.monotonic() < end:
            time.sleep(0.2)
        assert running.pids() == []
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert list(temporary.iterdir()) == []


def check_same_scores(running: Service) -> None:
    """What is served scores as what is here: bitwise if the pixels are, else within rounding."""
    media, texts = pictures(20, size=16), prompts(0, 20)
    local = make_reward("jpeg", {})
    exact = remote(running.url("jpeg"), samples_per_request=3)
    assert torch.equal(exact.score(media, texts), local.score(media, texts))
    levels = (media * 255).round() / 255
    png = remote(running.url("jpeg"), encoding="png")
    assert torch.equal(png.score(media, texts), local.score(levels, texts))
    bright = remote(running.url("Bright"), encoding="png").score(media, texts)
    wanted = media.flatten(1).mean(1) + torch.arange(20)
    torch.testing.assert_close(bright, wanted, atol=0.5 / 255, rtol=0)


def check_refusals(running: Service) -> None:
    """A wrong token, a pickle, a large body, a wrong name: each with its status."""
    url = running.url("jpeg")

    def post(body: bytes, kind: str = CONTENT_TYPE, token: str = "secret") -> httpx.Response:
        headers = {"authorization": f"Bearer {token}", "content-type": kind}
        return httpx.post(url, content=body, headers=headers, trust_env=False)

    assert post(b"", token="wrong").status_code == 401
    assert httpx.get(url, trust_env=False).status_code == 401
    assert httpx.get(running.url("status"), trust_env=False).status_code == 401
    body = pickle.dumps({"media": [1.0]})
    assert post(body, "application/octet-stream").status_code == 415
    assert post(body, "application/python-pickle").status_code == 415
    answer = post(body)
    assert answer.status_code == 400
    assert answer.json()["error"] == "the body is no request of ddrl-reward/1, or cut off"
    assert post(b"x" * 2_000_000).status_code == 413
    large = remote(url, samples_per_request=0)
    with pytest.raises(RewardError, match=r"larger than 1 MB .status 413(?s:.*)samples_per_"):
        large.score(pictures(20, size=128), prompts(0, 20))
    with pytest.raises(RewardError, match=r"'jpeg', not 'ocr' .status 404"):
        remote(url, reward="ocr").score(pictures(2), prompts(0, 2))
    with pytest.raises(RewardError, match="there is no reward under this address, status 404"):
        remote(running.url("jpg"), attempts=1).score(pictures(2), prompts(0, 2))
    os.environ["SERVICE_TOKEN"] = "wrong"
    with pytest.raises(RewardError, match=r"missing or wrong .status 401(?s:.*)token_env"):
        remote(url).score(pictures(2), prompts(0, 2))
    os.environ["SERVICE_TOKEN"] = "secret"


def check_failures(running: Service) -> None:
    """What a reward raises arrives as that, and costs nobody else."""
    url = running.url("Bright")
    with pytest.raises(RewardError, match="reward 'Bright': The prompt is broken") as caught:
        remote(url, attempts=1).score(pictures(2), prompts(0, 2, "broken"))
    assert caught.value.hint == "mend it"
    mixed = Prompts(torch.arange(3), ("a", "unread", "a"), ({},) * 3)
    with pytest.raises(SampleError) as partly:
        remote(url).score(pictures(3), mixed)
    assert partly.value.causes == {1: "nothing to read"}
    failing = threading.Thread(target=lambda: _expect_failures(url))
    failing.start()
    for i in range(30):  # beside requests that fail, in the same batches
        value = remote_of(url).score(pictures(1, seed=i), prompts(i, 1))
        torch.testing.assert_close(value, pictures(1, seed=i).flatten(1).mean(1) + i)
    failing.join(60)


def _expect_failures(url: str) -> None:
    made = remote_of(url)
    for _ in range(30):
        with pytest.raises(RewardError, match="The prompt is broken"):
            made.score(pictures(1), prompts(0, 1, "broken"))


def remote_of(url: str) -> RemoteReward:
    if url not in _MADE:
        _MADE[url] = remote(url)
    return _MADE[url]


_MADE: dict[str, RemoteReward] = {}


def check_load_with_a_kill(running: Service) -> None:
    """8 clients of 60 requests each, and a replica killed on the way: every answer is right."""
    before = status(running)["Bright"]["requests"]
    wrong: list[str] = []
    done = [0] * CLIENTS

    def client(number: int) -> None:
        made = remote(running.url("Bright"), attempts=6)
        for i in range(REQUESTS):
            first = number * REQUESTS + i
            media = pictures(1, seed=first)
            try:
                value = made.score(media, prompts(first, 1))
            except RewardError as error:
                wrong.append(str(error))
                continue
            if abs(float(value) - float(media.mean()) - first) > 1e-3:
                wrong.append(f"{first}: {float(value)}")
            done[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    while sum(done) < CLIENTS * REQUESTS / 2 and not wrong:
        time.sleep(0.01)
    replicas = running.pids("ray::ServeReplica:reward-Bright")
    assert len(replicas) == 2
    os.kill(replicas[0], signal.SIGKILL)
    for thread in threads:
        thread.join(300)
    seconds = time.monotonic() - start
    assert wrong == []
    assert sum(done) == CLIENTS * REQUESTS
    found, wanted = status(running)["Bright"], before + 0.9 * CLIENTS * REQUESTS
    while found["requests"] <= wanted and time.monotonic() < start + 60:
        time.sleep(0.1)  # replicas report each second
        found = status(running)["Bright"]
    sys.stderr.write(f"\n{CLIENTS * REQUESTS / seconds:.0f} requests/s; {found}")
    assert found["shared_batches"] > 0
    assert max(map(int, found["batch_sizes"])) > 1
    assert found["requests"] > wanted
    metrics = httpx.get(running.url("status/metrics"), headers=TOKEN, trust_env=False).text
    assert 'ddrl_reward_batch_size_bucket{reward="Bright",le="+Inf"}' in metrics


def check_training(running: Service, folder: Path, factory: pytest.TempPathFactory) -> None:
    """A run with the served reward is the run with the reward here, bitwise."""
    recipe = write_recipe(folder, factory)
    short = ("run.steps=2", "evaluation.every=0")
    here = ddrl("train", recipe, "reward.0.name=jpeg", f"run.folder={folder / 'here'}", *short)
    assert here.code == 0, here.stderr
    options = {"url": running.url("jpeg"), "token_env": "SERVICE_TOKEN"}
    given = [*short]
    given += [f"reward.0.options.{key}={value}" for key, value in options.items()]
    there = ddrl("train", recipe, "reward.0.name=remote", f"run.folder={folder / 'there'}", *given)
    assert there.code == 0, there.stderr
    expected = metrics_of(folder / "here")
    renamed = [
        {name.replace("reward/remote", "reward/jpeg"): value for name, value in line.items()}
        for line in metrics_of(folder / "there")
    ]
    assert [line["reward/jpeg"] for line in renamed] == [line["reward/jpeg"] for line in expected]
    assert len(renamed) == 2


def test_the_token_stays_where_a_served_reward_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddrl.cli.reward.serve import _token
    from ddrl.recipe.serving import load_serving

    file = tmp_path / "rewards.toml"
    text = '[serve]\ntoken_env = "SERVICE_TOKEN"\n[[reward]]\nname = "remote"\n'
    asked = 'options = {{ url = "http://h/a", token_env = "{}" }}\n'
    file.write_text(text + asked.format("SERVICE_TOKEN"))
    assert _token(load_serving(file)) == "secret"
    assert os.environ["SERVICE_TOKEN"] == "secret"
    file.write_text(text + asked.format("OTHER_TOKEN"))
    assert _token(load_serving(file)) == "secret"
    assert "SERVICE_TOKEN" not in os.environ


CONTRADICTORY = """
[[reward]]
name = "tests.rewards.served:Major"
route = "four"
requirements = ["transformers<5"]
cpus = 0.25

[[reward]]
name = "tests.rewards.served:Major"
route = "five"
requirements = ["transformers>=5"]
cpus = 0.25
"""


@pytest.mark.slow  # two environments are made by pip
def test_contradictory_requirements_side_by_side(tmp_path: Path) -> None:
    start = time.monotonic()
    with service(tmp_path, CONTRADICTORY, seconds=1000) as running:
        sys.stderr.write(f"\nboth environments after {time.monotonic() - start:.0f} s")
        media = pictures(6)
        four = remote(running.url("four")).score(media, prompts(0, 6))
        five = remote(running.url("five")).score(media, prompts(0, 6))
        assert four.floor().tolist() == [4.0] * 6
        assert five.floor().tolist() == [5.0] * 6
        assert len(set(four.tolist())) == 6
        torch.testing.assert_close(four - 4, five - 5)  # one network under both versions
        assert running.interrupt() == 130
        assert running.pids() == []
