from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tests.data.making import caption, cut, write_broken_folder, write_image, write_video
from torch import Tensor

from ddrl.data.encoded.cache import EncodedCache
from ddrl.data.encoded.encoders import MediaEncoder, TextEncoder, as_stored
from ddrl.data.encoded.encoding import EncodeReport, encode
from ddrl.data.encoded.filling import Filler
from ddrl.data.layouts.files import find_samples, usable
from ddrl.data.media.framing import Bucket, Framing
from ddrl.errors import DataError

FRAMING = Framing((Bucket(8, 12), Bucket(8, 16, 5)), fps=6)


class Bench:
    """A data set of two images and a clip, a cache, and encoders that count their calls."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        caption(write_image(self.data / "a.png"), "a cat")
        caption(write_image(self.data / "b.png", colour=(255, 0, 0)), "a cat")
        caption(write_video(self.data / "c.mp4"), "a clip")
        self.cache = EncodedCache(folder / "cache")
        self.media_calls: list[tuple[int, ...]] = []
        self.text_calls: list[list[str]] = []
        self.media = MediaEncoder(self.encode_media, "vae-1", torch.float32)
        self.text = TextEncoder(self.encode_text, "clip-1", torch.float32, batch_size=2)

    def encode_media(self, pixels: Tensor) -> Tensor:
        self.media_calls.append(tuple(pixels.shape))
        return pixels.mean(dim=-1) * 2

    def encode_text(self, texts: Sequence[str]) -> dict[str, Tensor]:
        self.text_calls.append(list(texts))
        lengths = torch.tensor([len(text) for text in texts])
        return {"hidden": lengths[:, None].float().expand(-1, 4), "mask": lengths[:, None] > 0}

    def run(self, framing: Framing = FRAMING) -> EncodeReport:
        self.media_calls.clear()
        self.text_calls.clear()
        samples = usable(find_samples(self.data), on_broken="stop")
        return encode(samples, Filler(self.cache, self.media, self.text, framing))

    def counts(self, framing: Framing = FRAMING) -> tuple[int, int]:
        """How many media and texts a run encodes, by its report and by the encoders' count."""
        report = self.run(framing)
        assert report.media_encoded == len(self.media_calls)
        assert report.texts_encoded == sum(map(len, self.text_calls))
        assert report.media_encoded + report.media_reused == 3
        return report.media_encoded, report.texts_encoded


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_what_is_encoded_comes_back(bench: Bench) -> None:
    report = bench.run()
    assert bench.media_calls == [(1, 3, 8, 12), (1, 3, 8, 12), (1, 5, 3, 8, 16)]
    assert bench.text_calls == [["a cat", "a clip"], [""]]
    assert [one.name for one in report.samples] == ["a.png", "b.png", "c.mp4"]
    red = bench.cache.media(report.samples[1].media_key)
    assert red.keys() == {"latents"}
    expected = torch.tensor([2.0, 0, 0])[:, None].expand(3, 8)
    assert torch.equal(red["latents"], expected)
    text = bench.cache.text(report.samples[0].text_key)
    assert torch.equal(text["hidden"], torch.full((4,), 5.0))
    assert text["mask"].dtype == torch.bool
    assert bench.cache.text(report.text_keys[""])["mask"].tolist() == [False]
    assert report.lines()[0] == "media    3 encoded, 0 reused"


def test_the_second_run_encodes_nothing(bench: Bench) -> None:
    first = bench.run()
    second = bench.run()
    assert bench.media_calls == []
    assert bench.text_calls == []
    assert second.samples == first.samples
    assert (second.media_reused, second.texts_reused) == (3, 3)


def test_a_copy_with_other_dates_and_names_encodes_nothing(bench: Bench) -> None:
    bench.counts()
    (bench.data / "a.png").rename(bench.data / "z.png")
    (bench.data / "a.txt").rename(bench.data / "z.txt")
    os.utime(bench.data / "b.png", (0, 0))
    assert bench.counts() == (0, 0)


def test_another_vae_makes_latents_anew_and_no_text(bench: Bench) -> None:
    bench.counts()
    bench.media = dataclasses.replace(bench.media, fingerprint="vae-2")
    assert bench.counts() == (3, 0)
    bench.media = dataclasses.replace(bench.media, fingerprint="vae-1")
    assert bench.counts() == (0, 0)


def test_another_text_encoder_makes_texts_anew_and_no_latents(bench: Bench) -> None:
    bench.counts()
    bench.text = dataclasses.replace(bench.text, fingerprint="clip-2")
    assert bench.counts() == (0, 3)


def test_another_dtype(bench: Bench) -> None:
    bench.counts()
    bench.media = dataclasses.replace(bench.media, dtype=torch.bfloat16)
    assert bench.counts() == (3, 0)
    report = bench.run()
    key = report.samples[0].media_key
    assert bench.cache.media(key)["latents"].dtype == torch.bfloat16
    bench.text = dataclasses.replace(bench.text, dtype=torch.float16)
    assert bench.counts() == (0, 3)


def test_each_text_gets_its_own_row_of_a_batch(bench: Bench) -> None:
    """Texts are encoded two at a time, here to their lengths."""
    keys = bench.run().text_keys
    assert max(map(len, bench.text_calls)) == 2
    stored = {text: bench.cache.text(key)["hidden"][0].item() for text, key in keys.items()}
    assert stored == {"a cat": 5, "a clip": 6, "": 0}


def test_a_number_that_the_dtype_can_not_hold_is_named() -> None:
    with pytest.raises(DataError, match=r"for a clip is not finite in torch\.float16"):
        as_stored(torch.tensor([1e5]), torch.float16, "a clip")
    assert as_stored(torch.tensor([1e5]), torch.bfloat16, "a clip").isfinite().all()


def test_numbers_of_fewer_bits_are_not_blown_up(bench: Bench) -> None:
    bench.text = dataclasses.replace(
        bench.text, encode=lambda texts: {"hidden": torch.ones(len(texts), 2).bfloat16()}
    )
    report = bench.run()
    assert bench.cache.text(report.text_keys[""])["hidden"].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("framing", "num_media"),
    [
        (Framing((Bucket(4, 6), Bucket(8, 16, 5)), fps=6), 2),  # the crop of images
        (Framing((Bucket(8, 12), Bucket(8, 8, 5)), fps=6), 1),  # of clips
        (Framing((Bucket(8, 12), Bucket(8, 16, 4)), fps=6), 1),
        (Framing(FRAMING.buckets, fps=5), 1),
        (Framing(FRAMING.buckets, fps=6, start="centre"), 1),
        (Framing((*FRAMING.buckets, Bucket(64, 8)), fps=6), 0),  # nothing goes to the new one
        (Framing(FRAMING.buckets, fps=6, max_pixels=10**6), 0),
    ],
)
def test_another_framing_invalidates_what_it_changes(
    bench: Bench, framing: Framing, num_media: int
) -> None:
    bench.counts()
    assert bench.counts(framing) == (num_media, 0)
    assert bench.counts(framing) == (0, 0)


def test_another_caption_makes_only_its_text_anew(bench: Bench) -> None:
    bench.counts()
    caption(bench.data / "a.png", "a dog")
    assert bench.counts() == (0, 1)
    assert bench.text_calls == [["a dog"]]


def test_another_content_of_the_same_size_and_date_is_seen(bench: Bench) -> None:
    path = bench.data / "b.png"
    path.write_bytes(path.read_bytes().ljust(200, b"\0"))
    before, status = bench.run().samples[1].media_key, path.stat()
    write_image(path, colour=(0, 255, 0))
    path.write_bytes(path.read_bytes().ljust(200, b"\0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    report = bench.run()
    assert report.media_encoded == 1
    assert report.samples[1].media_key != before


def test_a_killed_encoding_goes_on_where_it_was(bench: Bench) -> None:
    whole = bench.encode_media

    def killed(pixels: Tensor) -> Tensor:
        if len(bench.media_calls) == 2:
            raise KeyboardInterrupt
        return whole(pixels)

    bench.media = dataclasses.replace(bench.media, encode=killed)
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    assert len(bench.media_calls) == 2
    assert not (bench.cache.folder / "index.json").exists()
    bench.media = dataclasses.replace(bench.media, encode=whole)
    assert bench.counts() == (1, 3)


def test_half_a_file_is_never_used(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(DataError, match="can't be written: No space left on device"):
            bench.run()
    left = [path for path in bench.cache.folder.rglob("*") if path.is_file()]
    assert left == []
    key = bench.run().samples[0].media_key
    path = bench.cache.folder / "media" / key[:2] / f"{key}.safetensors"
    cut(path, 0.9)
    with pytest.raises(DataError, match="can't be read"):
        bench.cache.media(key)
    assert bench.counts() == (1, 0)


def fail(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_leftovers_of_killed_runs_are_swept(bench: Bench) -> None:
    bench.run()
    old, new = (bench.cache.folder / "media" / f".writing-{n}-x.safetensors" for n in (1, 2))
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    assert bench.cache.sweep() == 1
    assert new.exists()


def test_a_file_that_its_writer_finishes_during_the_sweep_is_left_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bench.cache.folder / "media" / "ab"
    folder.mkdir(parents=True)
    names = [f".writing-{number}-x" for number in (1, 2, 3)]
    for name in names:
        (folder / name).touch()
        os.utime(folder / name, (0, 0))
    glob = Path.glob

    def finished_meanwhile(path: Path, pattern: str) -> list[Path]:
        found = list(glob(path, pattern))
        (folder / names[1]).rename(folder / "whole")
        return found

    monkeypatch.setattr(Path, "glob", finished_meanwhile)
    assert bench.cache.sweep() == 2
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_the_index_says_what_is_there(bench: Bench) -> None:
    report = bench.run()
    index = bench.cache.index()
    assert index["media"] == {"fingerprint": "vae-1", "dtype": "torch.float32"}
    assert [one["media_key"] for one in index["samples"]] == [
        one.media_key for one in report.samples
    ]
    assert index["samples"][2]["bucket"] == {"height": 8, "width": 16, "frames": 5}
    (bench.cache.folder / "index.json").write_text("{}")
    with pytest.raises(DataError, match="no index of this version"):
        bench.cache.index()


def test_broken_media_under_both_policies(tmp_path: Path, bench: Bench) -> None:
    folder = write_broken_folder(tmp_path / "broken")
    samples = usable(find_samples(folder), on_broken="skip")
    report = encode(samples, Filler(bench.cache, bench.media, bench.text, FRAMING))
    assert [problem.path[:2] for problem in report.problems] == ["01", "02", "03", "05", "06"]
    assert len(report.samples) == 5
    with pytest.raises(DataError, match=r"has 1 broken entry: 01_truncated\.png"):
        encode(samples, Filler(bench.cache, bench.media, bench.text, FRAMING), on_broken="stop")
    with pytest.raises(DataError, match="None of 1 samples can be used, the first is 01_trunc"):
        encode(samples[:1], Filler(bench.cache, bench.media, bench.text, FRAMING))


def test_an_encoder_that_goes_wrong_is_named(bench: Bench) -> None:
    bench.media = dataclasses.replace(bench.media, encode=lambda pixels: pixels / 0)
    with pytest.raises(DataError, match=r"output for a\.png is not finite in torch\.float32"):
        bench.run()
    bench.media = dataclasses.replace(bench.media, encode=lambda pixels: pixels[0])
    with pytest.raises(DataError, match=r"returned shape \(3, 8, 12\) for one sample, a\.png"):
        bench.run()
    bench.media = dataclasses.replace(bench.media, encode=bench.encode_media)
    bench.text = dataclasses.replace(bench.text, encode=lambda _: {"hidden": torch.zeros(1, 2)})
    with pytest.raises(DataError, match="a hidden that is not one row for each for 2 texts"):
        bench.run()
