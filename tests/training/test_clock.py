"""Seconds are added up by part."""

from __future__ import annotations

import time

from ddrl.training.logs.clock import Clock


def test_seconds_are_of_their_part_and_the_whole_is_since_the_start() -> None:
    clock = Clock()
    time.sleep(0.02)
    for _ in range(2):
        with clock("rollout"):
            time.sleep(0.02)
    with clock("reward"):
        pass
    metrics = clock.metrics()
    assert metrics.keys() == {"seconds/rollout", "seconds/reward", "seconds"}
    assert metrics["seconds/rollout"] >= 0.04
    assert metrics["seconds"] >= metrics["seconds/rollout"] + metrics["seconds/reward"] + 0.02
