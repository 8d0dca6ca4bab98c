"""What is loaded never brings code with it: no remote code, no pickles, over the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "ddrl"


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Every call, and the name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def is_given(call: ast.Call, name: str, value: object) -> bool:
    given = [word.value for word in call.keywords if word.arg == name]
    return len(given) == 1 and isinstance(given[0], ast.Constant) and given[0].value is value


def complaints(text: str) -> list[str]:
    """What is wrong with a module."""
    found = []
    for call, name in calls(ast.parse(text)):
        owner, _, method = name.rpartition(".")
        loads = method in {"from_pretrained", "from_config"}
        chooses = owner.rpartition(".")[2].startswith("Auto") or owner == "pipelines"
        if loads and chooses and not is_given(call, "trust_remote_code", False):
            found.append(f"line {call.lineno}: {name} without trust_remote_code=False")
        if any(word.arg == "trust_remote_code" for word in call.keywords) and not is_given(
            call, "trust_remote_code", False
        ):
            found.append(f"line {call.lineno}: {name} may trust remote code")
        if name == "torch.load" and not is_given(call, "weights_only", True):
            found.append(f"line {call.lineno}: torch.load without weights_only=True")
        if owner in {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}:
            found.append(f"line {call.lineno}: {name}")
        if name in {"np.load", "numpy.load"} and not is_given(call, "allow_pickle", False):
            found.append(f"line {call.lineno}: {name} without allow_pickle=False")
        if name in {"eval", "exec", "torch.hub.load", "yaml.load"}:
            found.append(f"line {call.lineno}: {name}")
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: p.stem)
def test_nothing_that_is_loaded_runs(path: Path) -> None:
    assert complaints(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "transformers.AutoModel.from_pretrained(path)",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
        "AutoModel.from_pretrained(path, trust_remote_code=trusted)",
        "AutoTokenizer.from_pretrained(path, **options)",
        "Model.from_pretrained(path, trust_remote_code=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pickle.load(file)",
        "np.load(path)",
        "eval(text)",
    ],
)
def test_the_check_sees(line: str) -> None:
    assert complaints(line)
