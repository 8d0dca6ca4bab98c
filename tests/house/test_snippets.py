"""What README and the pages show works as it is printed.

Commands run in a folder with what their page assumes. Runs and comparisons are only planned, and
what can't run here is parsed by the command line's own parser. Blocks of Python are executed. A
block is written if it is a file: its first line is `# mine.toml`, or the paragraph before names it.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from diffusers import SD3Transformer2DModel
from tests.cli.command import ddrl, write_recipe
from tests.flow.diffusers_jobs import Job
from tests.flow.test_diffusers import write_picture
from tests.house.snippets import ROOT, Block, blocks, check_arguments, check_toml, pages
from tests.models.families import test_sd3 as sd3

from ddrl.jobs.plan import check_recipe
from ddrl.recipe import load_recipe

NOT_RUN = {
    "$ ddrl reward serve examples/rewards.toml": "serves until stopped: rewards/test_service.py",
    "server.serve_forever()": "serves until stopped: rewards/test_own_server.py",
}
"""A line of a block that can't run here -> why; commands among them are still parsed."""

OTHERS = {"make", "pip", "python", "source", "export", "pytest", "git", "cd"}
"""Programs that are not ddrl's. tests/house/test_docs.py knows the targets of make."""

PAGES = pages()
ALL = {page: list(blocks(page)) for page in PAGES}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pages assume: a small SD3, captioned pictures, a run on them, and one on digits."""
    root = tmp_path_factory.mktemp("shared")
    pipeline = sd3.build_pipeline(root)
    network = SD3Transformer2DModel.from_config(
        pipeline.transformer.config, pos_embed_max_size=256
    )  # for 512x512
    pipeline.register_modules(transformer=network)
    job = Job.make(root, pipeline, write_picture, side=16)
    assert job.train(root / "posters").code == 0
    digits = root / "digits"
    digits.mkdir()
    assert ddrl("train", write_recipe(digits, tmp_path_factory)).code == 0
    return root


@pytest.fixture
def here(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder as a reader of a page has it."""
    for name in ("recipes", "examples", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "recipe.toml").symlink_to(shared / "posters" / "recipe.toml")
    for name, target in {"models/sd3.5-medium": "model", "data/posters": "data"}.items():
        shutil.copytree(shared / target, tmp_path / name)  # a page may write there
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write_file(block: Block) -> None:
    """Write a block that is a file."""
    if block.file:
        path = Path(block.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.body, encoding="utf-8")


def fetch_files(command: str) -> None:
    """Write the files that a command names and another page shows."""
    shown = {block.file: block for found in ALL.values() for block in found if block.file}
    for word in shlex.split(command, comments=True):
        if word in shown and not Path(word).exists():
            write_file(shown[word])


def run_python(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Execute a block, and the tests that it defines."""
    module = ModuleType("snippet")
    monkeypatch.setitem(sys.modules, "snippet", module)  # dataclasses look for it
    exec(compile(block.body, str(block), "exec"), vars(module))
    for name, test in vars(module).items():
        if name.startswith("test_") and callable(test):
            test()


def install(block: Block) -> None:
    """Have the entry points of a pyproject.toml, for classes that the page defines."""
    points = tomllib.loads(block.body)["project"]["entry-points"]["ddrl.rewards"]
    for name, place in points.items():
        module, _, wanted = place.partition(":")
        file = Path(*module.split(".")).with_suffix(".py")
        shown = [one.body for one in ALL[block.page] if f"class {wanted}:" in one.body]
        if not shown:  # another page's, or an example's
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(shown[0], encoding="utf-8")
        record = Path(f"{name}-0.dist-info")
        record.mkdir()
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")
        (record / "entry_points.txt").write_text(f"[ddrl.rewards]\n{name} = {place}\n")


def run_command(command: str, shared: Path) -> None:
    """Run a command of ddrl, or plan what would take long."""
    words = check_arguments(command)
    if words[0] == "train":
        path, *overrides = (word for word in words[1:] if not word.startswith("-"))
        recipe = load_recipe(path, overrides)
        if recipe.model.path and not Path(recipe.model.path).exists():
            check_recipe(recipe)  # memory of a release at its full size takes long to trace
            return
    out = words[words.index("--out") + 1] if "--out" in words else ""
    for name in {word for word in words if re.fullmatch(r"runs/[\w.-]+", word)} - {out}:
        shutil.rmtree(name, ignore_errors=True)
        # An audit of digits would train judges first.
        small = words[0] == "evaluate" or name == "runs/posters"
        shutil.copytree(shared / ("posters" if small else "digits") / "run", name)
    if words[0] in {"train", "compare"} and "--dry-run" not in words:
        words.append("--dry-run")
    if words[:2] == ["reward", "audit"]:
        words += ["--limit", "6"]
    result = ddrl(*words)
    assert result.code == 0, f"{command}\n{result.stdout[-1000:]}\n{result.stderr[-2000:]}"


def check_installation(command: str) -> None:
    """See that the extras of a `pip install` exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for word in shlex.split(command, comments=True)[2:]:
        found = re.fullmatch(r"(?:ddrl|\.)(?:\[([\w,]+)\])?", word)
        assert found, f"{word!r} of {command!r} installs something else than ddrl"
        assert set((found[1] or "").split(",")) <= {"", *project["optional-dependencies"]}, command


def works(block: Block, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do with a block what a reader would."""
    lines = set(block.body.splitlines())
    if lines & {line for line in NOT_RUN if not line.startswith("$ ")}:
        return
    write_file(block)
    if block.kind == "toml":
        check_toml(block)
        if "[project" in block.body:
            install(block)
    if block.kind == "python":
        run_python(block, monkeypatch)
    for command in block.commands:
        program = command.split()[0]
        fetch_files(command)
        if program != "ddrl":
            assert program in OTHERS, f"{block}: {command}"
            if program == "pip":
                check_installation(command)
            if program == "python":
                words = [sys.executable, *shlex.split(command, comments=True)[1:]]
                subprocess.run(words, check=True, capture_output=True)
        elif f"$ {command}" in NOT_RUN:
            check_arguments(command)
        else:
            run_command(command, shared)


@pytest.mark.parametrize("page", [page for page, found in ALL.items() if found])
def test_what_a_page_shows_works(
    page: str, here: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = []
    for block in ALL[page]:
        try:
            works(block, shared, monkeypatch)
        except Exception as error:  # a reader would see any
            wrong.append(f"{block}: {type(error).__name__}: {error}")
    assert not wrong, "\n\n".join(wrong)


def test_what_is_not_run_is_still_there() -> None:
    lines = {line for found in ALL.values() for block in found for line in block.body.splitlines()}
    assert {line for line in NOT_RUN if line not in lines} == set()
    assert all(NOT_RUN.values())


@pytest.mark.parametrize(
    ("kind", "body", "wrong"),
    [
        ("console", "$ ddrl train digits --dry", "No such option"),
        ("console", "$ ddrl trian digits", "there is no command 'trian'"),
        ("console", "$ ddrl train digits objective.betta=1", "objective.beta"),
        ("console", "$ ddrl explain objective.betta", "objective.beta"),
        ("console", "$ ddrl train nowhere.toml", "nowhere.toml"),
        ("console", "$ pip install '.[model]'", "model"),
        ("console", "$ pip install other", "something else than ddrl"),
        ("console", "$ rm -r runs", "rm -r runs"),
        ("toml", "[objective]\nbetta = 1", "betta"),
        ("toml", '[data]\nsource = "file"', "source"),
        ("toml", '[[reward]]\nname = "ocr"\noptions = { matches = "contains" }', "matches"),
        ("toml", '[project.entry-points."ddrl.reward"]\na = "b:C"', "ddrl.reward"),
        ("python", "import ddrl\nddrl.rolout", "rolout"),
        ("python", "def test_it():\n    assert 1 > 2, 'planted'", "planted"),
    ],
)
def test_a_planted_fault_is_found(
    here: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, kind: str, body: str, wrong: str
) -> None:
    block = Block("docs/page.md", 1, kind, body + "\n", "")
    with pytest.raises(Exception, match=re.escape(wrong)):  # the parser's own among them
        works(block, shared, monkeypatch)


def test_a_block_that_is_a_file_is_known() -> None:
    (mine, *_) = [block for block in ALL["README.md"] if block.kind == "toml"]
    assert (mine.file, mine.commands) == ("mine.toml", [])
    assert "models.toml" not in {block.file for block in ALL["docs/models.md"]}
    assert "my_package/painter.py" in {block.file for block in ALL["docs/models.md"]}
