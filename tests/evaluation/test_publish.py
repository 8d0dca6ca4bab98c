"""Pages show strangers' text as text, whole, and files have the mode that the umask gives."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from markupsafe import Markup

from ddrl.errors import DataError
from ddrl.evaluation.pages.publish import publish, templates


def test_text_on_a_page_has_no_tags_and_no_direction_of_its_own() -> None:
    page = templates().from_string(
        "<p>{{ text }}</p>{{ whole }}{{ number }}{% for _ in [] %}{% endfor %}"
    )
    shown = page.render(
        text="<b>\u202egnp\x1b[0m\nnext\tline é", whole=Markup("<i>\n</i>"), number=1.5
    )
    assert shown == "<p>&lt;b&gt;\\u202egnp\\x1b[0m\nnext\tline é</p><i>\n</i>1.5"


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_report_is_read_by_whom_the_umask_lets(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        paths = publish("report", tmp_path / "out", {"a.html": "é\r\n", "a.json": "{}"})
    finally:
        os.umask(before)
    assert [path.name for path in paths] == ["a.html", "a.json"]
    assert paths[0].read_bytes() == "é\r\n".encode()
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {mode}
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_what_can_not_be_written_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="The report can't be written"):
        publish("report", tmp_path / "file", {"a.html": ""})
