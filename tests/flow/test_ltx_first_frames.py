"""LTX-2 from first frames through the command line, on a base that names the other class."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command import ddrl, metrics_of
from tests.data.making import write_image
from tests.flow.diffusers_jobs import Job, weights
from tests.flow.test_first_frames import GIVEN, write_clip
from tests.models.families.ltx.ltx2_parts import build_pipeline


def test_from_a_plan_to_an_export(tmp_path: Path) -> None:
    job = Job.make(tmp_path, build_pipeline(newer=True), write_clip, side=32, frames=5)
    recipe, run = job.recipe(tmp_path / "job"), tmp_path / "job" / "run"
    plan = ddrl("train", recipe, GIVEN, "--dry-run")
    assert plan.code == 0, plan.stderr
    assert "can't be traced" not in plan.stderr
    job.train(tmp_path / "job", GIVEN)
    assert [line["step"] for line in metrics_of(run)] == [1, 2]
    trained = weights(run, 2)
    assert not any("audio" in name for name in trained)
    assert any(bool(value.any()) for name, value in trained.items() if "lora_B" in name)
    picture = tmp_path / "picture.png"
    write_image(picture, width=32, height=32)
    sample = ("sample", run, "--prompt", "a", "--num", "1", "--first-frame", picture)
    assert ddrl(*sample).code == 0
    assert (run / "samples" / "000-a-0.mp4").stat().st_size > 0
    assert ddrl("export", run).code == 0
    card = (run / "export" / "README.md").read_text()
    assert "LTX2ImageToVideoPipeline.from_pretrained" in card
    assert "image_crf=0" in card
