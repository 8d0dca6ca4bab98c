"""What a cached thing depends on is in its key, and its place is not."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import torch
from tests.models.families.test_sd3 import build_pipeline

from ddrl.builders import keys
from ddrl.builders.identity import _settings, _sums, base_parts, encoder_hash
from ddrl.builders.scorers import reward_key
from ddrl.builders.store import make_once
from ddrl.builders.synthetic.selection import scores_path
from ddrl.builders.tasks.table import task_of
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.pretrained import load_model
from ddrl.models.tiny.config import TinyConfig
from ddrl.models.tiny.model import TinyModel
from ddrl.recipe import parse_recipe
from ddrl.rewards.base import reward_class

REWARD = "from {helper} import value\n\nclass Own:\n    def score(self, media, prompts): ...\n"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules can be imported, and are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    keys._makers.cache_clear()
    yield
    keys._makers.cache_clear()


def key(name: str) -> str:
    importlib.invalidate_caches()
    return reward_key(name, {}, reward_class(name))


def test_a_helper_in_the_rewards_package_is_part_of_it(own: Path) -> None:
    package = own / "own_rewards" / "deep"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "bright.py").write_text(REWARD.format(helper="own_rewards.helper"))
    (package.parent / "helper.py").write_text("value = 1\n")
    name = "own_rewards.deep.bright:Own"
    before = key(name)
    assert key(name) == before
    (own / "beside.py").write_text("value = 3\n")
    assert key(name) == before
    (package.parent / "helper.py").write_text("value = 2\n")
    changed = key(name)
    assert changed != before
    (package.parent / "words.txt").write_text("a list that it may read")
    assert key(name) != changed


def test_a_single_file_with_what_it_imports_from_beside_it(own: Path) -> None:
    (own / "one_reward.py").write_text(REWARD.format(helper="one_helper"))
    (own / "one_helper.py").write_text("from one_more.inner import value\n")
    (own / "one_more").mkdir()
    (own / "one_more" / "inner.py").write_text("value = 1\n")
    (own / "stranger.py").write_text("value = 1\n")
    found = [key("one_reward:Own")]
    (own / "stranger.py").write_text("value = 2\n")
    assert key("one_reward:Own") == found[0]
    for path in ("one_helper.py", "one_more/inner.py", "one_reward.py"):
        with (own / path).open("a") as file:
            file.write("# another\n")
        found.append(key("one_reward:Own"))
    assert len(set(found)) == 4


def test_a_base_class_in_another_package_is_part_of_it(own: Path) -> None:
    (own / "sub_reward.py").write_text("import base_of\n\nclass Own(base_of.Base): ...\n")
    base = own / "base_of"
    base.mkdir()
    (base / "__init__.py").write_text("from base_of.a import Base\n")
    (base / "a.py").write_text("class Base:\n    def score(self, media, prompts): ...\n")
    before = key("sub_reward:Own")
    with (base / "a.py").open("a") as file:
        file.write("# another\n")
    assert key("sub_reward:Own") != before


@pytest.mark.parametrize("library", ["ddrl", "torch", "transformers", "pillow"])
def test_another_version_makes_everything_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    recipe = parse_recipe('[[reward]]\nname = "ink"\n', overrides=[f"run.cache={tmp_path}"])
    model = TinyModel(TinyConfig(("a",), 4, 4, width=8, depth=1))

    def every() -> list[object]:
        keys._makers.cache_clear()
        folder = make_once(tmp_path, "base", ["same"], lambda path: (path / "x").touch())
        return [
            key("ink"),
            scores_path(task_of(recipe), model),
            folder[0],
            keys.cache_key("synthetic", 1),
        ]

    before, version = every(), metadata.version
    monkeypatch.setattr(metadata, "version", lambda n: "9.9" if n == library else version(n))
    after = every()
    assert all(old != new for old, new in zip(before, after, strict=True))
    monkeypatch.setattr(metadata, "version", lambda n: f"{version(n).partition('+')[0]}+cu999")
    assert every() == before  # a build for another device


def test_ddrls_own_code_is_part_of_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "ddrl"
    shutil.copytree(keys.PACKAGE, copy, ignore=shutil.ignore_patterns("*.pyc"))
    kinds = ("x", *keys.MAKERS, "classifier-mlp")
    before = [keys.cache_key(kind) for kind in kinds]
    monkeypatch.setattr(keys, "PACKAGE", copy)
    keys._makers.cache_clear()
    assert [keys.cache_key(kind) for kind in kinds] == before  # wherever it is installed
    everything = {"x", "base", "word-reader", "classifier", "encoder", "reward", "classifier-mlp"}
    for name, changed in (
        ("cli/app.py", set()),
        ("jobs/evaluate/monitors.py", {"x"}),
        ("training/pretrain.py", {"x", "base"}),
        (
            "rewards/networks/pixels.py",
            {"x", "word-reader", "classifier", "reward", "classifier-mlp"},
        ),
        ("models/tiny/model.py", {"x", "base", "encoder", "reward"}),
        ("seeding.py", everything),
    ):
        before = [keys.cache_key(kind) for kind in kinds]
        with (copy / name).open("a") as file:
            file.write("# another\n")
        keys._makers.cache_clear()
        after = [keys.cache_key(kind) for kind in kinds]
        found = {kind for kind, a, b in zip(kinds, before, after, strict=True) if a != b}
        assert found == changed, name


def test_every_room_that_makes_something_is_there() -> None:
    rooms = {room for rooms in keys.MAKERS.values() for room in rooms}
    assert [room for room in sorted(rooms) if not (keys.PACKAGE / room).exists()] == []


def test_weights_that_an_option_names_are_told_by_content(tmp_path: Path) -> None:
    folder = tmp_path / "weights" / "deep"
    folder.mkdir(parents=True)
    file = folder / "model.bin"
    file.write_bytes(b"one")
    before = keys.stamps(str(tmp_path / "weights"))
    file.touch()
    assert keys.stamps(str(tmp_path / "weights")) == before
    file.write_bytes(b"two")
    assert keys.stamps(str(tmp_path / "weights")) != before
    assert keys.stamps("x" * 5000) == keys.stamps("x" * 5000)  # a text that can be no path
    assert keys.stamps(3) == []


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sd3")
    build_pipeline(root / "parts").save_pretrained(root / "model")
    return root / "model"


@pytest.fixture
def model(pipeline: Path) -> DiffusersModel:
    return load_model(pipeline)


def test_a_base_is_the_same_wherever_it_lies_and_whatever_it_has_done(
    pipeline: Path, tmp_path: Path, model: DiffusersModel
) -> None:
    shutil.copytree(pipeline, tmp_path / "copy")
    other = load_model(tmp_path / "copy")
    before, encoder = base_parts(model), keys.encoder_fingerprint(model)
    other.encode(["a cat", ""])  # tokenizers keep the settings of their last call
    other.decode(torch.zeros(1, 4, 8, 8))
    assert base_parts(other) == before
    assert keys.encoder_fingerprint(other) == encoder
    expected = {"transformer", "vae", "scheduler", "text_encoder", "tokenizer"}
    assert expected <= before.keys()


def test_every_bit_of_a_base_counts(model: DiffusersModel) -> None:
    before = base_parts(model)
    parameter = max(model.transformer.parameters(), key=torch.Tensor.numel)
    for place in (0, parameter.numel() // 2, parameter.numel() - 1):
        bits = parameter.detach().view(torch.int32).flatten()
        bits[place] ^= 1
        changed = base_parts(model)
        bits[place] ^= 1
        assert [n for n in before if before[n] != changed[n]] == ["transformer"]
    assert base_parts(model) == before


def test_what_an_encoder_depends_on(model: DiffusersModel) -> None:
    """Buffers, by which a VAE may normalise; the tokenizer; the longest text; not the network."""
    before = encoder_hash(model)
    with torch.no_grad():
        next(model.transformer.parameters()).mul_(2)
    assert encoder_hash(model) == before
    model.vae.register_buffer("running_mean", torch.zeros(4))
    found = [before, encoder_hash(model)]
    model.vae.running_mean.add_(1)
    found.append(encoder_hash(model))
    model.max_text_tokens = 12  # type: ignore[attr-defined]  # as FLUX.1's adapter has it
    found.append(encoder_hash(model))
    model.pipeline.tokenizer.model_max_length = 5
    found.append(encoder_hash(model))
    backend = model.pipeline.tokenizer_2.backend_tokenizer
    rules = json.loads(backend.to_str())
    rules["added_tokens"], rules["normalizer"] = rules["added_tokens"][:-1], None
    model.pipeline.tokenizer_2._tokenizer = type(backend).from_str(json.dumps(rules))
    found.append(encoder_hash(model))
    assert len(set(found)) == len(found)


def test_sums_do_not_depend_on_layout_and_see_every_place() -> None:
    """More than a chunk, and a number of bytes that eight does not divide."""
    rng = torch.Generator().manual_seed(0)
    whole = torch.randn(1_100_003, generator=rng).bfloat16()
    expected = _sums(whole)
    assert torch.equal(_sums(torch.cat([whole[:1], whole])[1:]), expected)  # not aligned
    assert torch.equal(_sums(torch.stack([whole, whole], 1)[:, 0]), expected)  # not contiguous
    assert not torch.equal(_sums(whole.flip(0)), expected)
    assert not torch.equal(_sums(torch.roll(whole, 4)), expected)
    assert len(_sums(torch.empty(0))) == 0


def test_what_an_object_says_of_its_place_in_memory_is_no_setting() -> None:
    class Checker:
        pass

    one, other = Checker(), Checker()
    assert repr(one) != repr(other)
    assert _settings({"checker": one}) == _settings({"checker": other})
    assert _settings({"checker": one}) != _settings({"checker": 1})
    assert _settings({"names": {"b", "a"}}) == {"names": ["a", "b"]}
