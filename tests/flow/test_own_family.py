"""A family in one file of the user's: the page's example, from a plan to an export."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.cli.command import Result, ddrl, metrics_of
from tests.flow.aura_flow import build_pipeline
from tests.flow.diffusers_jobs import Job, image_size, weights
from tests.flow.test_diffusers import write_picture

from ddrl.models.adapter.opened import METHODS, OpenedModel
from ddrl.models.adapter.own_family import family_class
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "models.md").read_text("utf-8")
SECTION = PAGE.partition("## Your own family")[2]
PYTHON = re.findall(r"^```python\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
FAMILY = "my_package.aura_flow:AuraFlow"
SET = f"model.family={FAMILY}"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A base and data; the package lies beside them, and is nowhere on the path."""
    root = tmp_path_factory.mktemp("aura")
    package = root / "my_package"
    package.mkdir()
    (package / "aura_flow.py").write_text(PYTHON[0])
    return Job.make(root, build_pipeline(), write_picture, side=16)


@pytest.fixture(autouse=True)
def working_folder(job: Job, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands run where the package lies; no process had loaded it before."""
    monkeypatch.chdir(job.root)
    yield
    forget()


def forget() -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] in ("my_package", "my_module")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def run(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(job.root)
        result = job.train(folder, SET)
    forget()
    assert "LoRA of rank 4 on 8 modules" in result.stderr
    return folder / "run"


def test_the_page_holds_it_to_the_pipeline(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(job.root)
    names: dict[str, object] = {}
    exec(compile(PYTHON[1], "docs/models.md", "exec"), names)
    check = names["check"]
    assert callable(check)
    with torch.random.fork_rng(devices=[]):
        check(job.root / "model")


def test_the_pages_recipe_names_it() -> None:
    assert f'family = "{FAMILY}"' in SECTION


def test_a_plan_reads_no_weights_and_knows_the_activations(job: Job, tmp_path: Path) -> None:
    result = ddrl("train", job.recipe(tmp_path), SET, "--dry-run")
    assert result.code == 0, result.stderr
    assert "can't be traced" not in result.stderr
    assert "rollout" in result.stdout
    assert not (tmp_path / "run").exists()


def test_it_is_trained_and_goes_on(job: Job, run: Path) -> None:
    assert len(metrics_of(run)) == 2
    assert any(bool(w.any()) for n, w in weights(run, 2).items() if "lora_B" in n)
    result = job.train(run.parent, SET, "run.steps=3")
    assert "resuming after step 2" in result.stderr
    assert "media 0 encoded, 8 reused" in result.stderr
    assert "other code" not in result.stderr


def test_other_code_encodes_anew_and_is_told(job: Job, run: Path) -> None:
    file = job.root / "my_package" / "aura_flow.py"
    before = file.read_text()
    file.write_text(before + "\n# another thought\n")
    try:
        result = job.train(run.parent, SET, "run.steps=4")
    finally:
        file.write_text(before)
    assert "resuming after step" in result.stderr
    assert "media 8 encoded, 0 reused" in result.stderr
    assert f"other code of {FAMILY}" in result.stderr


def test_what_reads_a_run_runs_no_code_of_the_folder_unasked(run: Path, tmp_path: Path) -> None:
    for command in ("sample", "evaluate", "export"):
        ddrl(command, run).failed(
            2, "Module 'my_package' lies in the working folder", "--allow-code"
        )
    sample = ("sample", run, "--prompt", "a", "--num", "1", "--out", tmp_path / "samples")
    result = ddrl(*sample, "--allow-code")
    assert result.code == 0, result.stderr
    assert image_size(tmp_path / "samples" / "000-a-0.png") == (16, 16)
    result = ddrl("evaluate", run, "--allow-code")
    assert result.code == 0, result.stderr
    report = json.loads((run / "evaluation" / "report.json").read_text())
    assert list(report["runs"]) == ["base", "run"]


def test_its_adapter_is_exported(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "export"
    result = ddrl("export", run, "--allow-code", "--out", out)
    assert result.code == 0, result.stderr
    card = (out / "README.md").read_text()
    assert "AuraFlowPipeline.from_pretrained" in card
    assert 'pipeline.load_lora_weights("' in card
    assert FAMILY in card
    whole = ddrl("export", run, "--allow-code", "--merged", "--out", tmp_path / "merged")
    assert whole.code == 0, whole.stderr
    index = json.loads((tmp_path / "merged" / "model_index.json").read_text())
    assert index["_class_name"] == "AuraFlowPipeline"
    ddrl("export", run, "--allow-code", "--format", "kohya", "--out", tmp_path / "k").failed(
        2, "An adapter of AuraFlow has no keys in the format kohya"
    )


def test_doctor_opens_a_base_with_it(job: Job) -> None:
    model = ("doctor", "--model", "model")
    ddrl_error(
        ddrl(*model), 3, "a AuraFlowPipeline, which ddrl has no adapter for", "model.family="
    )
    result = ddrl(*model, "--family", FAMILY)
    assert result.code == 0, result.stderr
    assert "transformer: AuraFlowTransformer2DModel" in result.stdout
    ddrl("doctor", "--family", FAMILY).failed(2, "there is no --model")


def ddrl_error(result: Result, code: int, *phrases: str) -> None:
    assert result.code == code, result.stderr
    for phrase in phrases:
        assert phrase in result.stderr


def test_data_are_encoded_with_it(job: Job, run: Path, tmp_path: Path) -> None:
    assert run.exists()
    result = ddrl("data", "encode", job.recipe(tmp_path), SET)
    assert result.code == 0, result.stderr
    assert "media 0 encoded, 8 reused" in result.stdout + result.stderr


PAINTER = "model.family=my_package.painter:Painter"


@pytest.fixture(scope="module")
def painter(job: Job) -> Job:
    """A model that is no pipeline, beside the base, on the same data."""
    (job.root / "my_package" / "painter.py").write_text(PYTHON[2])
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.syspath_prepend(job.root)
        torch.manual_seed(0)
        network = import_module("my_package.painter").Network()
    forget()
    (job.root / "painter").mkdir()
    save_file(network.state_dict(), job.root / "painter" / "network.safetensors")
    return job


def test_an_opened_model_keeps_the_protocol(painter: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(painter.root)
    family = family_class("my_package.painter:Painter")
    model = load_model(painter.root / "painter", family=family)
    assert isinstance(model, OpenedModel)
    assert type(model).__name__ == "Painter"
    texts, rng = ["a cat", ""], torch.Generator().manual_seed(0)
    condition, media = model.encode(texts), torch.rand((2, 3, 8, 16), generator=rng)
    check_adapter(
        AdapterCase(
            model=model.inner,
            condition=condition,
            latent_shape=(3, 8, 16),
            media=media,
            texts=texts,
            round_trip=1e-6,
        )
    )
    x, t = model.encode_media(media), torch.tensor([0.2, 0.7])
    assert torch.equal(model.predict(x, t, condition), model.inner.predict(x, t, condition))
    torch.testing.assert_close(model.decode(x), media)


@pytest.mark.parametrize("adapter", [True, False], ids=["lora", "all"])
def test_an_opened_model_is_planned_trained_and_exported(
    adapter: bool, painter: Job, tmp_path: Path
) -> None:
    settings = (PAINTER, "model.path=painter", f"model.lora.rank={4 * adapter}")
    plan = ddrl("train", painter.recipe(tmp_path), *settings, "--dry-run")
    assert plan.code == 0, plan.stderr
    result = painter.train(tmp_path, *settings)
    assert not adapter or "LoRA of rank 4 on 2 modules" in result.stderr
    run, out = tmp_path / "run", tmp_path / "export"
    assert len(weights(run, 2)) == 4
    result = painter.train(tmp_path, *settings, "run.steps=3")
    assert "resuming after step 2" in result.stderr
    assert "media 0 encoded, 8 reused" in result.stderr
    sample = ddrl("sample", run, "--allow-code", "--raw", "--prompt", "a", "--num", "1")
    assert sample.code == 0, sample.stderr
    assert ddrl("evaluate", run, "--allow-code").code == 0
    if adapter:
        ddrl("export", run, "--allow-code").failed(3, "can't save an adapter", "--merged")
    merged = ("--merged",) if adapter else ()
    result = ddrl("export", run, "--allow-code", "--raw", "--out", out, *merged)
    assert result.code == 0, result.stderr
    card = (out / "README.md").read_text()
    lines = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert lines
    assert "from my_package.painter import Painter" in lines[1]
    before = load_file(painter.root / "painter" / "network.safetensors")
    after = load_file(out / "network.safetensors")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_doctor_says_what_it_can_not_know(painter: Job) -> None:
    result = ddrl("doctor", "--model", painter.root / "painter", "--family", PAINTER.split("=")[1])
    assert result.code == 0, result.stderr
    assert "nothing is known of its files" in result.stdout


def test_what_an_opened_model_can_not_have_is_told(painter: Job, tmp_path: Path) -> None:
    recipe, own = painter.recipe(tmp_path), (PAINTER, "model.path=painter")
    for key, phrase in {
        "model.offload=true": "model.offload is for pipelines",
        "model.embedded_guidance=3": "is told no guidance scale",
        "model.gradient_checkpointing=true": "has no gradient checkpointing",
        "model.lora.targets=nothing": "LoRA would be bound to no module",
        "model.path=data": "data can't be opened",
    }.items():
        result = ddrl("train", recipe, *own, key)
        assert result.code in (2, 3), result.stderr
        assert phrase in result.stderr
        assert "hint: " in result.stderr


WHOLE = PYTHON[0]
OPENS = "class X:\n    @classmethod\n    def open(cls, path, *, dtype): ...\n"
FAULTS = {
    "no module": ("no_such_module:X", "", "There is no module 'no_such_module'", "install"),
    "no class": ("my_module:AuraFlo", WHOLE, "has no AuraFlo", "my_module:AuraFlow?"),
    "no adapter": ("my_module:X", "class X: ...", "is no adapter", "derive it"),
    "a function": ("my_module:x", "def x(): ...", "is no adapter", "derive it"),
    "fails as it is loaded": ("my_module:X", "1 / 0", "division by zero", "import my_module"),
    "needs a package": ("my_module:X", "import nowhere", "It needs 'nowhere'", "pip install"),
    "members missing": (
        "my_module:X",
        "from ddrl.models.adapter.diffusers_model import DiffusersModel as D\nclass X(D): ...",
        "it has no _encode and no predict and no pipelines and no lora_targets",
        "add them to X",
    ),
    "members of a model missing": (
        "my_module:X",
        OPENS,
        "it has no encode and no predict and no encode_media and no decode",
        "add them to X",
    ),
    "opens something else": (
        "my_module:X",
        OPENS + "\n".join(f"    {name} = None" for name in METHODS[1:]),
        "X.open gives a NoneType, which has no encode",
        "return an instance",
    ),
    "a text for names": (
        "my_module:AuraFlow",
        WHOLE.replace('("AuraFlowPipeline",)', '"AuraFlowPipeline"'),
        "which is not a tuple of names",
        "write it as pipelines",
    ),
    "of another pipeline": (
        "my_module:AuraFlow",
        WHOLE.replace('("AuraFlowPipeline",)', '("FluxPipeline",)'),
        "holds a AuraFlowPipeline, and AuraFlow is for FluxPipeline",
        'add "AuraFlowPipeline" to AuraFlow.pipelines',
    ),
    "no such key": ("aura", "", 'must be one of "tiny", "diffusers", or package', "model.family"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("more", [("--dry-run",), ()], ids=["plan", "run"])
def test_faults_are_one_sentence(
    fault: str, more: tuple[str, ...], job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, code, *phrases = FAULTS[fault]
    recipe = job.recipe(tmp_path)
    (tmp_path / "my_module.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    result = ddrl("train", recipe, f"model.family={name}", *more)
    if fault == "no such key":
        assert result.code == 2
        return
    result.failed(2, *phrases)


def test_a_fault_of_its_code_is_told_with_its_line(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = WHOLE.replace("timestep=t,", "timestep=t.missing,")
    assert code != WHOLE
    recipe = job.recipe(tmp_path)
    (tmp_path / "my_module.py").write_text(code)
    line = 1 + code[: code.index("t.missing")].count("\n")
    monkeypatch.chdir(tmp_path)
    result = ddrl("train", recipe, "model.family=my_module:AuraFlow")
    assert result.code == 2
    assert f"my_module.py, line {line}" in result.stderr
    assert "hint: put it right there" in result.stderr
