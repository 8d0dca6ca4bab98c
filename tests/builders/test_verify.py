"""Whether base and data are those of a checkpoint, by hand-made notes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ddrl.builders import verify
from ddrl.builders.verify import (
    DataRow,
    check_base,
    check_data,
    has_identity,
    identity_notes,
    same_places,
)
from ddrl.errors import CheckpointError
from ddrl.recipe import parse_recipe
from ddrl.training.manifest import Checkpoint

EMBEDDED = parse_recipe('[[reward]]\nname = "ink"\n')
FILES = EMBEDDED.model_copy(
    update={"model": EMBEDDED.model.model_copy(update={"path": "models/mine"})}
)
BASE = {"network": "1", "vae": "2"}
ROWS = [
    DataRow("a.png", "a cat", "x", is_heldout=False),
    DataRow("b.png", "a dog", "y", is_heldout=False),
    DataRow("c.png", "a cow", "z", is_heldout=True),
    DataRow("a.png", "a cat", "w", is_heldout=False),
]


def noted(rows: list[DataRow] = ROWS) -> Checkpoint:
    return Checkpoint(Path("there"), 1, "", identity_notes(BASE, rows))


def test_the_same_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    check_base(noted(), dict(reversed(BASE.items())), FILES, hint="")
    check_data(noted(), ROWS, FILES, hint="")
    assert not caplog.records


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ({**BASE, "vae": "3"}, "vae differs"),
        ({"network": "1"}, "vae differs"),
        ({**BASE, "clip": "4"}, "clip differs"),
        ({"network": "9", "vae": "9"}, "network and vae differ"),
    ],
)
def test_another_base_is_refused(base: dict[str, str], said: str) -> None:
    """A part that changed, is missing or is new, also where all trained weights are replaced."""
    for recipe, replaced in ((FILES, ""), (FILES, "network"), (EMBEDDED, "network")):
        with pytest.raises(CheckpointError, match=f"on another base than .*: {said}") as caught:
            check_base(noted(), base, recipe, hint="put it back", replaced=replaced)
        assert caught.value.hint == "put it back"


def test_another_network_of_the_embedded_base_is_told_where_its_weights_are_replaced(
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = {**BASE, "network": "9"}
    with caplog.at_level(logging.WARNING):
        check_base(noted(), other, EMBEDDED, hint="", replaced="network")
    assert "was trained from another network than that of the embedded base" in caplog.text
    for recipe, replaced in ((EMBEDDED, ""), (FILES, "network")):
        with pytest.raises(CheckpointError, match="network differs"):
            check_base(noted(), other, recipe, hint="", replaced=replaced)


A, B, C, D = ROWS
CHANGED = [
    ([A, B, C], "'a.png' is gone"),
    ([A, B, C, D, DataRow("d.png", "", "", is_heldout=False)], "'d.png' is new"),
    ([A, DataRow("b.png", "a dog", "!", is_heldout=False), C, D], "'b.png' holds something else"),
    ([A, DataRow("b.png", "a cow", "y", is_heldout=False), C, D], "'b.png' has another caption"),
    ([A, DataRow("b.png", "a dog", "y", is_heldout=True), C, D], "'b.png' is held out"),
    ([A, B, DataRow("c.png", "a cow", "z", is_heldout=False), D], "'c.png' is no longer held out"),
    ([B, A, C, D], "the order changes at 'b.png'"),
    ([D, B, C, A], "'a.png' holds something else, and 1 more"),
]


@pytest.mark.parametrize(("rows", "said"), CHANGED)
def test_what_changed_in_the_data_is_named(rows: list[DataRow], said: str) -> None:
    with pytest.raises(CheckpointError, match=f"other data than there are now: {said}"):
        check_data(noted(), rows, EMBEDDED, hint="")


@pytest.mark.parametrize(("rows", "said"), CHANGED)
def test_of_much_data_it_is_told_that_they_differ(
    rows: list[DataRow], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "MAX_ROWS", 3)
    checkpoint = noted()
    assert "rows" not in checkpoint.notes["identity"]["data"]
    check_data(checkpoint, ROWS, EMBEDDED, hint="")
    with pytest.raises(CheckpointError, match=f"of 4 samples then and {len(rows)} now, some"):
        check_data(checkpoint, rows, EMBEDDED, hint="")


def test_a_checkpoint_without_notes_is_taken_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = Checkpoint(Path("there"), 1, "")
    assert not has_identity(old)
    assert has_identity(noted())
    with caplog.at_level(logging.WARNING):
        check_base(old, BASE, FILES, hint="")
    assert "does not say what base and data" in caplog.text
    check_data(old, ROWS, FILES, hint="")


def test_places_may_differ_where_what_lies_there_is_the_same() -> None:
    other_base = Checkpoint(Path("x"), 1, "", identity_notes({**BASE, "vae": "3"}, ROWS))
    base = ("model.path", "model.start", "model.lora.start")
    assert same_places(noted(), noted()) == (*base, "data.path")
    assert same_places(noted(), noted(ROWS[:-1])) == base
    assert same_places(noted(), other_base) == ("data.path",)
    assert same_places(noted(), Checkpoint(Path("old"), 1, "")) == ()
    assert same_places(None, noted()) == ()
