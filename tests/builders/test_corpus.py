"""Files as a run's data: prompts with given frames, read from the cache when they are needed."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
import torch
from diffusers import WanPipeline
from tests.data.making import caption, write_image, write_lines, write_video
from tests.flow.diffusers_jobs import Job
from tests.models.families.wan import wan_parts
from tests.models.families.wan.test_wan_i2v import build_pipeline as build_i2v
from tests.models.families.wan.test_wan_ti2v import build as build_ti2v

from ddrl.builders.data.corpus import Corpus, Part, files_corpus, heldout_ids
from ddrl.builders.data.encoding import encode_files
from ddrl.builders.data.samples import find_files, hub_stream
from ddrl.builders.pretrained import build_pretrained
from ddrl.data.locators import Locator
from ddrl.data.media.framing import Framing
from ddrl.data.media.images import read_image
from ddrl.data.media.reading import Framed, frame_media, to_unit
from ddrl.data.media.videos import read_video
from ddrl.errors import DataError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.families.wan.text_to_video import WanCondition
from ddrl.recipe import Recipe, load_recipe, parse_recipe

CPU = torch.device("cpu")
# Of the clips: a and b are of one prompt, since they have both caption and beginning in common.
CLIPS = {
    "a": ("grows", 0, 5),
    "b": ("grows", 0, 6),
    "c": ("grows", 80, 5),
    "d": ("shrinks", 0, 5),
    "e": ("shrinks", 40, 5),
}


def write_data(folder: Path) -> None:
    """Clips; the first frame of e is named, and is another than its own."""
    for name, (text, first, frames) in CLIPS.items():
        path = folder / f"{name}.mp4"
        caption(write_video(path, frames=frames, width=32, height=32, first=first), text)
    (folder / "e.txt").unlink()
    record = {"caption": "shrinks", "first_frame": "start.png"}
    (folder / "e.json").write_text(json.dumps(record))
    write_image(folder / "start.png", width=32, height=32, colour=(200, 10, 10))


@pytest.fixture(scope="module", params=["WanI2V", "WanTI2V"])
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = tmp_path_factory.mktemp(request.param)
    pipeline = build_i2v() if request.param == "WanI2V" else build_ti2v(WanPipeline)
    pipeline.save_pretrained(root / "model")
    return Job(root, 32, 5)


def opened(job: Job, folder: Path, *overrides: str) -> tuple[Recipe, DiffusersModel]:
    """A recipe on data in ``folder``, and its model, with no adapter that would be random."""
    given = ["data.given_frames=1", "model.lora.rank=0", f"data.path={folder}/data"]
    recipe = load_recipe(job.recipe(folder), [*given, f"run.cache={folder}/cache", *overrides])
    return recipe, build_pretrained(recipe, CPU)


Found = dict[str, tuple[str, WanCondition, torch.Tensor]]


def rows_of(part: Part, names: list[str]) -> Found:
    """By clip: its caption, condition and latents."""
    found = {}
    for row, (name, prompt) in enumerate(zip(names, part.caption_id.tolist(), strict=True)):
        condition = part.condition[torch.tensor([prompt])]
        assert isinstance(condition, WanCondition)
        found[name] = (part.captions[prompt], condition, part.x0[torch.tensor([row])])
    return found


def everything(recipe: Recipe, model: DiffusersModel) -> tuple[Corpus, Found]:
    """The corpus, and the rows of both of its parts by clip."""
    corpus = files_corpus(recipe, model)
    samples, _ = encode_files(recipe, model)
    held = heldout_ids([sample.id for sample in samples], recipe.data.heldout)
    names = [
        [sample.name[0] for sample in samples if (sample.id in held) == is_held]
        for is_held in (False, True)
    ]
    return corpus, rows_of(corpus.train, names[0]) | rows_of(corpus.heldout, names[1])


def test_a_prompt_is_a_caption_and_what_is_given(job: Job, tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    recipe, model = opened(job, tmp_path, "data.heldout=0.2")
    corpus, found = everything(recipe, model)
    parts = (corpus.train, corpus.heldout)
    assert [len(part.x0) for part in parts] == [4, 1]
    assert sum(len(part.captions) for part in parts) == 4  # a and b share one, if trained on both
    for name, (text, condition, latents) in found.items():
        clip = to_unit(read_video(Path(recipe.data.path) / f"{name}.mp4", num_frames=5))[None]
        first = clip[:, :1]
        if name == "e":
            first = to_unit(read_image(Path(recipe.data.path) / "start.png"))[None, None]
        expected = model.encode([text], first_frames=first, frames=5)
        assert isinstance(expected, WanCondition)
        assert text == CLIPS[name][0]
        assert torch.equal(condition.embeds, expected.embeds)
        assert condition.given is not None
        assert expected.given is not None
        assert torch.equal(condition.given, expected.given)
        if expected.image is not None:
            assert condition.image is not None
            torch.testing.assert_close(condition.image, expected.image)
        assert torch.equal(latents, model.encode_media(clip))


def test_another_first_frame_changes_its_own_condition_alone(job: Job, tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    recipe, model = opened(job, tmp_path)
    _, before = everything(recipe, model)
    write_image(tmp_path / "data" / "start.png", width=32, height=32, colour=(10, 200, 10))
    _, after = everything(recipe, model)
    assert before.keys() == after.keys() == CLIPS.keys()
    for name, (text, old, latents) in before.items():
        same_text, new, same_latents = after[name]
        assert text == same_text
        assert torch.equal(latents, same_latents)
        assert torch.equal(old.embeds, new.embeds)
        assert old.given is not None
        assert new.given is not None
        assert torch.equal(old.given, new.given) == (name != "e")


def test_held_out_media_are_decoded_when_they_are_asked_for(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path / "data")
    recipe, model = opened(job, tmp_path)
    decoded: list[str] = []

    def counted(source: Locator, framing: Framing) -> Framed:
        decoded.append(source.name)
        return frame_media(source, framing)

    monkeypatch.setattr("ddrl.builders.data.corpus.frame_media", counted)
    real = files_corpus(recipe, model).real
    assert (len(real), len(decoded)) == (2, 0)
    media = real.media[torch.tensor([1])]
    assert (media.shape, len(decoded)) == ((1, 5, 3, 32, 32), 1)


def test_embeddings_are_kept_in_the_dtype_of_the_network(job: Job, tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    recipe, model = opened(job, tmp_path, "model.dtype=bfloat16", "model.lora.rank=2")
    condition = files_corpus(recipe, model).train.condition[:1]
    assert isinstance(condition, WanCondition)
    assert condition.given is not None
    assert (condition.embeds.dtype, condition.given.dtype) == (torch.bfloat16, torch.float32)


def test_models_that_need_first_frames_or_take_none(job: Job, tmp_path: Path) -> None:
    if "WanI2V" in job.root.name:
        with pytest.raises(DataError, match="WanI2V needs first frames") as caught:
            opened(job, tmp_path, "data.given_frames=0")
        assert caught.value.hint == "set data.given_frames = 1"
        return
    parts = {"transformer": wan_parts.transformer(), "vae": wan_parts.vae()}
    WanPipeline(**parts, **wan_parts.text_parts()).save_pretrained(tmp_path / "model")
    with pytest.raises(DataError, match=r"Wan takes no first frames, but .* is 1") as caught:
        opened(job, tmp_path, f"model.path={tmp_path}/model")
    assert caught.value.hint == "set data.given_frames = 0"


def test_files_outside_are_read_if_the_recipe_allows_it(job: Job, tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    (tmp_path / "data" / "a.mp4").rename(tmp_path / "a.mp4")
    (tmp_path / "data" / "a.mp4").symlink_to("../a.mp4")
    recipe, model = opened(job, tmp_path)
    with pytest.raises(DataError, match="leads out of the data set") as caught:
        encode_files(recipe, model)
    (override,) = (word for word in ("data.outside=allow",) if "data.outside" in caught.value.hint)
    recipe, model = opened(job, tmp_path, override)
    samples, report = encode_files(recipe, model)
    assert len(samples) == len(report.samples) == len(CLIPS)


def test_a_recipe_names_splits_layout_and_columns(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        image = write_image(tmp_path / split / f"a.{'jpg' if split == 'val' else 'png'}")
        record = {"long": f"of {split} at length", "caption": f"of {split}"}
        image.with_suffix(".json").write_text(json.dumps(record))
    text = f"""
model = {{ family = "diffusers", path = "none" }}
data = {{ source = "files", path = "{tmp_path}" }}
[[reward]]
name = "ink"
"""

    def captions(*overrides: str) -> list[str]:
        recipe = parse_recipe(text, overrides=list(overrides))
        return [sample.caption for sample in find_files(recipe)]

    assert captions() == ["of train"]
    assert captions("data.split=train+val") == ["of train", "of val"]
    assert captions("data.caption_column=long") == ["of train at length"]
    assert captions("data.split=val", "data.media_column=jpg") == ["of val"]
    with pytest.raises(DataError, match="it has test, train, validation"):
        captions("data.split=tests")
    with pytest.raises(DataError, match=r"has no \.tar file"):
        captions("data.layout=shards")
    with pytest.raises(DataError, match="is a caption without media"):
        captions("data.media_column=jpg")


def test_a_set_of_the_hub_is_the_same_data_as_its_files(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    datasets.disable_progress_bars()
    rows = []
    for number in range(4):
        path = tmp_path / "data" / "train" / f"{number}.mp4"
        write_video(path, frames=5, width=32, height=32, first=number * 9)
        rows.append({"file_name": path.name, "text": f"of kind {number % 3}", "long": str(number)})
    write_lines(tmp_path / "data" / "train" / "metadata.jsonl", *rows)
    found = {}
    for source in ("files", "hub"):
        overrides = [f"data.source={source}", "data.heldout=0.5", f"run.cache={tmp_path}/{source}"]
        recipe, model = opened(job, tmp_path, *overrides)
        corpus = files_corpus(recipe, model)
        assert (len(corpus.heldout.x0), len(corpus.real.media[:])) == (2, 2)
        parts = (corpus.train, corpus.heldout)
        texts = [part.captions[i] for part in parts for i in part.caption_id.tolist()]
        latents = torch.cat([part.x0[:] for part in parts])
        order = sorted(range(4), key=lambda row: (texts[row], float(latents[row].sum())))
        found[source] = (sorted(texts), latents[order])
        assert torch.equal(corpus.real.media[:], files_corpus(recipe, model).real.media[:])
    assert found["files"][0] == found["hub"][0]
    assert torch.equal(found["files"][1], found["hub"][1])
    stream, key = hub_stream(opened(job, tmp_path, "data.source=hub", "data.split=train")[0])
    assert (stream.split, stream.config) == ("train", "")
    for override in ("data.config=x", "data.split=all", "data.caption_column=long"):
        assert hub_stream(opened(job, tmp_path, "data.source=hub", override)[0])[1] != key
    recipe, model = opened(job, tmp_path, "data.source=hub", "data.config=x")
    with pytest.raises(DataError, match="has no config 'x'"):
        files_corpus(recipe, model)


def test_clips_are_sampled_at_the_recipe_s_rate(job: Job, tmp_path: Path) -> None:
    """Of 12 frames a second, at 6 every second one is taken."""
    for name in ("a", "b"):
        path = write_video(tmp_path / "data" / f"{name}.mp4", frames=10, width=32, height=32)
        caption(path, f"grows {name}")
    latents = {}
    for fps in (0, 6):
        recipe, model = opened(job, tmp_path, f"data.fps={fps}", "data.heldout=0.5")
        latents[fps] = files_corpus(recipe, model).train.x0[:1]
    frames = read_video(tmp_path / "data" / "a.mp4", num_frames=10)
    assert torch.equal(latents[0], model.encode_media(to_unit(frames[:5])[None]))
    assert torch.equal(latents[6], model.encode_media(to_unit(frames[::2])[None]))
