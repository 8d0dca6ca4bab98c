from __future__ import annotations

import json
from pathlib import Path

from tests.cli.command import ddrl
from tests.data.making import caption, write_broken_folder, write_image, write_video


def test_check_counts(tmp_path: Path) -> None:
    caption(write_image(tmp_path / "a.png"))
    caption(write_video(tmp_path / "b.mp4"), "a clip")
    result = ddrl("data", "check", tmp_path)
    assert result.code == 0, result.stderr
    assert "samples       2: 1 images, 1 videos" in result.stdout
    assert "broken        0" in result.stdout
    assert result.stderr == ""


def test_check_names_what_is_broken_and_says_so_by_its_exit_code(tmp_path: Path) -> None:
    result = ddrl("data", "check", write_broken_folder(tmp_path))
    assert result.code == 3
    assert "  01_truncated.png: is a broken or truncated png" in result.stdout
    assert "Traceback" not in result.stderr


def test_check_as_json(tmp_path: Path) -> None:
    caption(write_video(tmp_path / "b.mp4", frames=12, fps=12))
    result = ddrl("data", "check", tmp_path, "--json", "--frames", "7", "--fps", "6")
    assert result.code == 3
    report = json.loads(result.stdout)
    assert report["num_samples"] == 0
    assert report["broken_by_kind"] == {"too_short": 1}


def test_check_of_nothing(tmp_path: Path) -> None:
    ddrl("data", "check", tmp_path / "none").failed(3, "There is no data at")
    assert ddrl("data", "check", tmp_path).code == 3  # an empty folder
    ddrl("data", "check", tmp_path, "--fps", "0").failed(2, "--fps must be above 0")
    ddrl("data", "check", tmp_path, "--frames", "0").failed(2)


def test_check_reads_the_split_that_is_named(tmp_path: Path) -> None:
    for split in ("train", "test"):
        image = write_image(tmp_path / split / "a.png")
        image.with_suffix(".json").write_text(json.dumps({"caption": "x", "long": "x y z"}))
    result = ddrl("data", "check", tmp_path)
    assert "takes the split train (1 file) and leaves out test (1 file)" in result.stdout
    assert result.code == 0
    assert "samples       2:" in ddrl("data", "check", tmp_path, "--split", "all").stdout
    ddrl("data", "check", tmp_path, "--split", "dev").failed(
        3, "no split 'dev'; it has test, train"
    )
    named = ddrl("data", "check", tmp_path, "--layout", "folder", "--caption-column", "long")
    assert "characters  5 to 5" in named.stdout
    ddrl("data", "check", tmp_path, "--layout", "tar").failed(2, "--layout has no value 'tar'")
    assert ddrl("data", "check", tmp_path, "--media-column", "jpg").code == 3


def test_help_and_no_command() -> None:
    assert "check" in ddrl("data").stdout
    assert ddrl("data", "--help").code == 0
    assert "--frames" in ddrl("data", "check", "--help").stdout
