from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from tests.data.making import caption, cut, write_broken_folder, write_image, write_video

from ddrl.data.check import DataReport, check
from ddrl.data.layouts.files import find_samples, usable
from ddrl.data.media.framing import Bucket, Framing
from ddrl.data.problems import Problem, settle
from ddrl.errors import DataError

EXPECTED = {
    "01_truncated.png": "broken",
    "02_empty.mp4": "empty_file",
    "03_text.png": "wrong_extension",
    "04_no_caption.png": "missing_caption",
    "05_one_frame.mp4": "too_short",
    "06_huge.png": "too_large",
    "07_latin1.txt": "caption_encoding",
    "08_deep/up": "symlink_loop",
    "08_self": "symlink_loop",
    "09_twice.jpg": "duplicate_name",
    "09_twice.png": "duplicate_name",
    "13_no_media.txt": "missing_media",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_broken_folder(tmp_path_factory.mktemp("broken"))


@pytest.fixture(scope="module")
def report(folder: Path) -> DataReport:
    return check(folder)


def test_every_kind_of_broken_input_is_named(report: DataReport) -> None:
    assert {problem.path: problem.kind for problem in report.problems} == EXPECTED
    assert report.broken == report.problems
    assert report.num_samples == 5
    assert (report.num_images, report.num_videos) == (4, 1)
    assert report.num_captions == 3
    assert report.seconds is not None
    assert report.seconds.median == pytest.approx(1)
    assert report.sizes == {"24x16": 4, "32x16": 1}


def test_the_terminal_names_each(report: DataReport) -> None:
    text = "\n".join(report.lines())
    assert "samples       5: 4 images, 1 videos" in text
    assert "broken        12: " in text
    for name in EXPECTED:
        assert f"  {name}: " in text


def test_the_json_has_it_all(report: DataReport) -> None:
    numbers = json.loads(json.dumps(report.as_json()))
    assert numbers["format"] == "ddrl-data-check/1"
    assert numbers["num_samples"] == 5
    assert numbers["num_broken"] == 12
    assert numbers["broken_by_kind"]["symlink_loop"] == 2
    assert numbers["problems"][0] == {
        "path": "01_truncated.png",
        "kind": "broken",
        "note": False,
        "message": numbers["problems"][0]["message"],
    }


def test_to_stop_names_the_first_three_and_how_many(folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        usable(find_samples(folder), on_broken="stop")
    message = caught.value.message
    assert "has 7 broken entries: 04_no_caption.png: " in message
    assert "; 07_latin1.txt: " in message
    assert "; and 4 more." in message
    assert "09_twice" not in message


def test_to_skip_logs_each(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = find_samples(folder)
    with caplog.at_level(logging.WARNING, "ddrl"):
        samples = usable(found, on_broken="skip")
    logged = [record.getMessage() for record in caplog.records]
    assert logged == [f"skipped {problem}" for problem in found.problems]
    assert len(samples) == 10


def test_notes_stop_nothing() -> None:
    settle([Problem("a.png", "other_format", "is a JPEG")], on_broken="stop", where="here")


def test_a_misnamed_image_and_a_slow_clip_are_notes(tmp_path: Path) -> None:
    caption(write_image(tmp_path / "a.jpg").rename(tmp_path / "a.png"))
    caption(write_video(tmp_path / "b.mp4", frames=12, fps=6))
    report = check(tmp_path, fps=12, num_frames=20)
    assert {p.path: p.kind for p in report.problems} == {
        "a.png": "other_format",
        "b.mp4": "repeated_frames",
    }
    assert report.broken == ()
    assert report.num_samples == 2
    assert "notes         2" in report.lines()


def test_clips_must_have_the_frames(tmp_path: Path) -> None:
    caption(write_video(tmp_path / "a.mp4", frames=12, fps=12))
    assert check(tmp_path, fps=6, num_frames=6).num_videos == 1
    (problem,) = check(tmp_path, fps=6, num_frames=7).broken
    assert problem.message == "has 12 frames (1.00 s at 12 fps), which is 6 at 6 fps; 7 are needed"


def test_buckets_are_counted(tmp_path: Path) -> None:
    caption(write_image(tmp_path / "a.png", width=32, height=16))
    caption(write_image(tmp_path / "b.png", width=16, height=16))
    caption(write_video(tmp_path / "c.mp4"))
    framing = Framing((Bucket(16, 16), Bucket(8, 16), Bucket(8, 16, 9)))
    done: list[tuple[int, int]] = []
    report = check(tmp_path, framing=framing, progress=lambda k, n: done.append((k, n)))
    assert report.buckets == {"16x8": 1, "16x16": 1, "16x8, 9 frames": 1}
    assert done == [(1, 3), (2, 3), (3, 3)]
    (problem,) = check(tmp_path, framing=Framing((Bucket(8, 16),))).broken
    assert problem.kind == "no_bucket"


def test_a_first_frame_is_decoded_too(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4")
    cut(write_image(tmp_path / "a.first.png", width=100, height=100), 0.5)
    (tmp_path / "a.json").write_text('{"caption": "x", "first_frame": "a.first.png"}')
    (problem,) = check(tmp_path).broken
    assert problem.path == "a.mp4"
    assert problem.message.startswith("its first frame is a broken or truncated png")
