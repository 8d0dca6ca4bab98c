"""What a model's encoders do not read of a caption is counted, and captions that become one."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusers import StableDiffusion3Pipeline
from tests.cli.command import ddrl
from tests.data.making import write_image
from tests.models.families import test_sd3, test_stable_diffusion

from ddrl.errors import WeightsError
from ddrl.models.files.text_limits import TextLimits, read_limits

LONG = "x" * 90  # a tokenizer of single letters makes a token of each


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sd")
    test_stable_diffusion.build_sd(root).save_pretrained(root / "model")
    return root / "model"


def test_texts_that_are_cut_and_that_become_one(clip: Path) -> None:
    limits = read_limits(clip)
    first, second = limits.notes(["short", LONG, LONG + "y", "z" + LONG])
    assert (
        first == "3 of 4 texts are cut: the model reads 77 tokens (tokenizer), and the longest "
        "text has 93"
    )
    assert second.startswith("2 texts become 1 to the model, such as 'xxx")
    assert limits.notes(["short", "other", ""]) == []
    assert limits.notes([LONG[:75], "z" * 75]) == []
    assert limits.notes(["A cat", "a cat"]) == [  # CLIP knows no capitals
        "2 texts become 1 to the model, such as 'A cat' and 'a cat'"
    ]


def test_the_encoder_that_reads_the_most_counts(tmp_path: Path) -> None:
    pipeline = test_sd3.build_pipeline(tmp_path)
    limits = TextLimits.of(pipeline)
    assert {name: limit for name, (_, limit) in limits.tokenizers.items()} == {
        "tokenizer": 77,
        "tokenizer_2": 77,
        "tokenizer_3": 256,
    }
    assert limits.notes([LONG, LONG + "y"]) == []  # T5 reads both
    long = "x" * 300
    assert (
        "reads 256 tokens (tokenizer_3), and the longest text has 302"
        in limits.notes([long, long + "y"])[0]
    )
    parts = {n: p for n, p in pipeline.components.items() if not n.endswith("_3")}
    alone = StableDiffusion3Pipeline(**parts, text_encoder_3=None, tokenizer_3=None)
    assert "reads 77 tokens" in TextLimits.of(alone).notes([LONG])[0]


def test_data_check_counts_in_the_tokens_of_a_model(clip: Path, tmp_path: Path) -> None:
    for index, caption in enumerate([LONG, LONG + "y", "a cat"]):
        write_image(tmp_path / f"{index}.png")
        (tmp_path / f"{index}.txt").write_text(caption)
    result = ddrl("data", "check", tmp_path, "--model", clip)
    assert result.code == 0, result.stderr
    assert "tokens      2 of 3 texts are cut: the model reads 77 tokens" in result.stdout
    assert "tokens      2 texts become 1 to the model" in result.stdout
    assert "tokens" not in ddrl("data", "check", tmp_path).stdout
    with pytest.raises(WeightsError):
        read_limits(tmp_path)
