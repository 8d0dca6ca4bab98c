"""The fixtures of a family's tests, which are run with every one of its file's cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.models.families.cases import Case

from ddrl.models.pretrained import load_model

SAVED: dict[Callable[[Path], Any], Path] = {}
"""Folders of pipelines: cases may differ in what their adapter is given alone."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with its file's cases, or with those that it names or that have what it needs."""
    if "case" in metafunc.fixturenames:
        cases: list[Case] = metafunc.module.CASES
        for of in (metafunc.cls, metafunc.function):
            if need := getattr(of, "needs", None):
                cases = [case for case in cases if getattr(case, need)]
        if names := getattr(metafunc.function, "cases", None):
            cases = [case for case in cases if case.name in names]
        ids = [case.name for case in cases]
        metafunc.parametrize("case", cases, ids=ids, indirect=True, scope="module")


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    """One of the file's cases."""
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def folder(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where its pipeline is saved."""
    if case.build not in SAVED:
        made = tmp_path_factory.mktemp(case.name)
        pipeline = case.build(made / "parts")
        pipeline.save_pretrained(made / "model")
        SAVED[case.build] = made / "model"
    return SAVED[case.build]


@pytest.fixture(scope="module")
def adapted(case: Case, request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Opens the case's adapter, as a user's is loaded."""
    folder = request.getfixturevalue("folder" if case.is_saved else "tmp_path_factory")

    def opened() -> Any:
        if case.is_saved:
            model = load_model(folder)
        else:
            model = case.adapter(case.build(folder.mktemp("parts")))
        assert type(model) is case.adapter
        model.pipeline.set_progress_bar_config(disable=True)
        assert model.given_frames == (0 if case.is_told else case.given)
        model.given_frames = case.given
        case.prepare(model)
        return model

    return opened


@pytest.fixture(scope="module")
def loaded(adapted: Callable[[], Any]) -> Any:
    """An adapter for all of a file's tests."""
    return adapted()


@pytest.fixture
def model(loaded: Any, case: Case) -> Any:
    """An adapter that no test changes for the next one."""
    loaded.given_frames = case.given
    return loaded


@pytest.fixture
def fresh(adapted: Callable[[], Any]) -> Any:
    """An adapter of a test's own."""
    return adapted()
