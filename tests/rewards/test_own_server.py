"""The server of docs/serving.md, which uses nothing of ddrl, is asked by the reward `remote`."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.rewards.service_process import free_port

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.remote import RemoteReward

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


def test_a_server_of_ones_own(tmp_path: Path) -> None:
    codes = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (code,) = (one for one in codes if "http.server" in one)
    assert "ddrl." not in code
    port = free_port()
    script = tmp_path / "server.py"
    script.write_text(code.replace("8000", str(port)))
    media = torch.rand((6, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    prompts = Prompts(torch.arange(6), tuple("abcdef"), ({},) * 6)
    reward = RemoteReward(url=f"http://127.0.0.1:{port}/", samples_per_request=4)
    with subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL) as server:
        try:
            value = _once_up(reward, media, prompts)
        finally:
            server.kill()
    torch.testing.assert_close(value, media.flatten(1).mean(1))


def _once_up(reward: RemoteReward, media: torch.Tensor, prompts: Prompts) -> torch.Tensor:
    end = time.monotonic() + 60
    while True:
        try:
            return reward.score(media, prompts)
        except RewardError as error:
            if time.monotonic() > end:
                pytest.fail(str(error))
            time.sleep(0.1)
