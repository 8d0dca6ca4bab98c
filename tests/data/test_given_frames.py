"""Given frames in the cache: made once, and made anew for what they depend on alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tests.data.making import caption, cut, write_image, write_video
from torch import Tensor

from ddrl.data.encoded.cache import EncodedCache
from ddrl.data.encoded.encoders import GivenEncoder, MediaEncoder, TextEncoder
from ddrl.data.encoded.encoding import EncodedSample, EncodeReport, encode
from ddrl.data.encoded.filling import Filler
from ddrl.data.layouts.files import find_samples, usable
from ddrl.data.media.framing import Bucket, Framing
from ddrl.data.media.images import read_image
from ddrl.data.media.videos import read_video
from ddrl.errors import DataError

FRAMING = Framing((Bucket(16, 16, 5),))


class Bench:
    """Three clips, the first of which has a first frame of its own, and encoders that count."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        for name, frames in (("a", 7), ("b", 6), ("c", 5)):
            write_video(self.data / f"{name}.mp4", frames=frames, width=16, height=16)
            caption(self.data / f"{name}.mp4", "a clip")
        self.given_image = self.data / "given.png"
        write_image(self.given_image, width=32, height=16, colour=(0, 0, 255))
        (self.data / "a.txt").unlink()
        record = {"caption": "a clip", "first_frame": "given.png"}
        (self.data / "a.json").write_text(json.dumps(record))
        self.cache = EncodedCache(folder / "cache")
        self.seen: list[Tensor] = []
        self.given = GivenEncoder(self.encode_given, "vae-1", 1)

    def encode_given(self, pixels: Tensor, frames: int, _: str) -> dict[str, Tensor]:
        self.seen.append(pixels)
        return {"given": pixels.mean((3, 4)) + frames, "image": pixels[:, :, 0, 0].bfloat16()}

    def run(self, framing: Framing = FRAMING, *, given: bool = True) -> EncodeReport:
        self.seen.clear()
        return encode(
            usable(find_samples(self.data), on_broken="stop"),
            Filler(
                self.cache,
                MediaEncoder(lambda pixels: pixels.mean(dim=-1), "vae-1", torch.float32),
                TextEncoder(lambda texts: {"e": torch.ones(len(texts), 2)}, "t5"),
                framing,
                given=self.given if given else None,
            ),
            on_broken="stop",
        )

    def counts(self, framing: Framing = FRAMING) -> tuple[int, int, int]:
        """How many media, given frames and texts a run encodes."""
        report = self.run(framing)
        assert report.given_encoded == len(self.seen)
        assert report.given_encoded + report.given_reused == 3
        return report.media_encoded, report.given_encoded, report.texts_encoded


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def features(bench: Bench, sample: EncodedSample) -> dict[str, Tensor]:
    return bench.cache.given(sample.given_key)


def test_they_are_the_named_image_or_the_clips_own(bench: Bench) -> None:
    report = bench.run()
    own = read_video(bench.data / "b.mp4")[:1]
    assert [tuple(pixels.shape) for pixels in bench.seen] == [(1, 1, 3, 16, 16)] * 3
    assert torch.equal(bench.seen[0][0, 0] * 255, read_image(bench.given_image)[:, :, 8:24].float())
    assert torch.equal(bench.seen[1][0] * 255, own.float())
    kept = features(bench, report.samples[1])
    assert torch.equal(kept["given"], bench.seen[1].mean((3, 4))[0] + 5)
    assert (kept["given"].dtype, kept["image"].dtype) == (torch.float32, torch.bfloat16)
    assert report.lines()[1] == "given    3 encoded, 0 reused"


def test_equal_pixels_are_equal_content_in_whatever_file(bench: Bench) -> None:
    one, two, three = bench.run().samples
    # The clips of 6 and 5 frames begin alike, and are other files with other keys.
    assert two.given_key != three.given_key
    assert two.given_content == three.given_content != one.given_content
    again = bench.run().samples
    assert [s.given_content for s in again] == [s.given_content for s in (one, two, three)]


def test_the_second_run_encodes_nothing(bench: Bench) -> None:
    assert bench.counts() == (3, 3, 2)
    assert bench.counts() == (0, 0, 0)


def test_another_image_makes_its_own_features_anew_and_nothing_else(bench: Bench) -> None:
    before = bench.run()
    latents = [bench.cache.media(s.media_key)["latents"] for s in before.samples]
    write_image(bench.given_image, width=32, height=16, colour=(0, 255, 0))
    after = bench.run()
    assert (after.media_encoded, after.given_encoded, after.texts_encoded) == (0, 1, 0)
    assert before.samples[1:] == after.samples[1:]
    one, other = before.samples[0], after.samples[0]
    assert (one.media_key, one.text_key) == (other.media_key, other.text_key)
    assert one.given_content != other.given_content
    assert torch.equal(bench.cache.media(other.media_key)["latents"], latents[0])


def test_another_clip_leaves_a_given_image_as_it_was(bench: Bench) -> None:
    bench.run()
    write_video(bench.data / "a.mp4", frames=9, width=16, height=16)
    assert bench.counts() == (1, 0, 0)
    write_video(bench.data / "b.mp4", frames=8, width=16, height=16)
    assert bench.counts() == (1, 1, 0)


def test_another_encoder_number_or_length(bench: Bench) -> None:
    bench.run()
    bench.given = dataclasses.replace(bench.given, fingerprint="vae-2")
    assert bench.counts() == (0, 3, 0)
    bench.given = dataclasses.replace(bench.given, num_frames=2)
    assert bench.counts() == (0, 3, 0)
    assert bench.seen[0].shape[1] == 2  # an image is one frame: these are the clip's own
    assert torch.equal(bench.seen[0][0] * 255, read_video(bench.data / "a.mp4")[:2].float())
    assert bench.counts(Framing((Bucket(16, 16, 4),))) == (3, 3, 0)


def test_a_rate_changes_what_comes_from_clips(bench: Bench) -> None:
    bench.run()
    assert bench.counts(Framing(FRAMING.buckets, fps=12)) == (3, 2, 0)


def test_without_given_frames_none_are_kept(bench: Bench) -> None:
    report = bench.run(given=False)
    assert {(s.given_key, s.given_content) for s in report.samples} == {("", "")}
    assert not (bench.cache.folder / "given").exists()
    assert len(report.lines()) == 3


def test_a_broken_image_is_named(bench: Bench) -> None:
    cut(bench.given_image)
    with pytest.raises(DataError, match=r"a\.mp4: its first frame is a broken or truncated png"):
        bench.run()


def test_more_frames_than_there_are(bench: Bench) -> None:
    bench.given = dataclasses.replace(bench.given, num_frames=6)
    with pytest.raises(DataError, match="has 5 frames, of which 6 are to be given"):
        bench.run()


def test_half_a_file_is_made_anew(bench: Bench) -> None:
    key = bench.run().samples[2].given_key
    path = bench.cache.folder / "given" / key[:2] / f"{key}.safetensors"
    cut(path, 0.9)
    with pytest.raises(DataError, match="can't be read"):
        bench.cache.given(key)
    with pytest.raises(DataError, match="can't be read"):
        bench.cache.note("text", bench.run().samples[0].text_key)  # which has none
    assert bench.counts() == (0, 0, 0)
