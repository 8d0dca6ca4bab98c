"""Standard streams that are closed, full, of few letters, or of a terminal that goes away."""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import termios
from functools import partial
from pathlib import Path

import pytest
from tests.cli.command import ROOT, ddrl, metrics_of
from tests.cli.forked import Streams, fork

from ddrl.cli.terminal.output import say, say_json
from ddrl.cli.terminal.progress import BarReporter, LogReporter, make_reporter
from ddrl.cli.terminal.streams import PatientFile, open_stream
from ddrl.cli.terminal.tables import print_table

FULL = "/dev/full"
pytestmark = pytest.mark.skipif(not Path(FULL).exists(), reason="devices of Linux")


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``ddrl`` as a shell does."""
    return subprocess.run(
        [
            "bash",
            "-c",
            f"set -o pipefail; ddrl() {{ '{sys.executable}' -m ddrl \"$@\"; }}; {command}",
        ],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("redirect", "code", "phrase"),
    [
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("2>&-", 0, ""),
        (f"2>{FULL}", 0, ""),
        (f">{FULL}", 2, "can't be written to the standard output: No space left on device."),
        (f">{FULL} 2>{FULL}", 2, ""),
        (f">{FULL} 2>&-", 2, ""),
        ("| true", 141, ""),
    ],
)
def test_results_that_are_lost(redirect: str, code: int, phrase: str) -> None:
    """A closed stream is wanted so; a full one is not, and the exit code says so."""
    done = shell(f"ddrl --version {redirect}")
    assert done.returncode == code, done.stderr
    assert (phrase in done.stderr) if phrase else (done.stderr == "")


def test_an_error_keeps_its_exit_code_where_it_can_not_be_said() -> None:
    for redirect in ("2>&-", f"2>{FULL}", f">{FULL} 2>&1", "2>&1 | true"):
        assert shell(f"ddrl trian {redirect}").returncode == 2, redirect


def test_a_run_without_streams(recipe: Path, tmp_path: Path) -> None:
    """Nothing that it writes lands in a descriptor that was a closed stream's."""
    closed = Streams(stdin="", stdout="", stderr="")
    run = tmp_path / "run"
    sample = ("sample", run, "--num", "1", "--prompt", "seven")
    done = fork(tmp_path / "out", ("train", recipe), sample, ("data", "check", run), streams=closed)
    assert done.codes() == [0, 0, 3]
    assert [row["step"] for row in metrics_of(run)] == [1, 2, 3, 4]
    assert (run / "samples" / "manifest.json").exists()


def test_work_goes_on_where_nothing_can_be_said(recipe: Path, trained: Path) -> None:
    """What is in files is done; only results that are nowhere else are missed."""
    evaluated = ("evaluate", trained)
    sample = ("sample", trained, "--num", "1", "--prompt", "seven")
    commands = (("train", recipe), evaluated, sample, ("export", trained), (*evaluated, "--json"))
    full = Streams(stdout=FULL, stderr=FULL)
    assert fork(recipe.parent / "out", *commands, streams=full).codes() == [0, 0, 0, 0, 2]
    assert json.loads((trained / "evaluation" / "report.json").read_text())


def on_terminal(path: str, ignored: bool) -> None:
    """Make a terminal the one that controls this process, and all of its streams."""
    if ignored:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.setsid()
    terminal = os.open(path, os.O_RDWR)
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    for number in (0, 1, 2):
        os.dup2(terminal, number)


@pytest.mark.parametrize("nohup", [False, True])
def test_a_terminal_that_goes_away(recipe: Path, tmp_path: Path, nohup: bool) -> None:
    """The run finishes its iteration and saves; under nohup it goes on to its end."""
    main, terminal = os.openpty()
    name = "reward.0.name=tests.cli.rewards:Gate"
    gate = [name, f"reward.0.options.folder={tmp_path}", "reward.0.options.at=3"]
    process = fork(
        tmp_path / "out",
        ("train", recipe, *gate),
        before=partial(on_terminal, os.ttyname(terminal), nohup),
    )
    os.close(terminal)
    process.wait_for(tmp_path / "reached")
    os.close(main)
    if not nohup:
        os.kill(process.pid, signal.SIGHUP)  # the shell sends it, too
    (tmp_path / "go").touch()
    assert process.codes() == [0 if nohup else 128 + signal.SIGHUP]
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*")).name
    assert newest == f"step-{4 if nohup else 3:08d}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_command_ends_by_a_signal(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """As an error would end it: what is half done is removed on the way, and nothing is shown."""
    cleared = []

    def check(*_: object, **__: object) -> None:
        try:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGHUP)  # one more, while it ends, does not hurry it
        finally:
            cleared.append(number)

    monkeypatch.setattr("ddrl.data.check.check", check)
    before = signal.signal(number, signal.SIG_DFL)  # tests may be started with it ignored
    try:
        result = ddrl("data", "check", ".")
    finally:
        signal.signal(number, before)
    assert (result.code, result.stderr) == (128 + number, f"stopped at once by {number.name}\n")
    assert cleared == [number]


def test_letters_that_an_encoding_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    like = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with (tmp_path / "out").open("wb") as file:
        monkeypatch.setattr(sys, "stdout", open_stream(file.fileno(), like))
        say("Fréchet \u2014 “größe” → 数 …")
        print_table(["Fréchet"], [["1"]])
        say_json(json.dumps({"caption": "größe 数"}, ensure_ascii=False))
    lines = (tmp_path / "out").read_bytes().decode("ascii").split("\n")
    assert lines[0] == r'Frechet - "gro\xdfe" -> \u6570 ...'
    assert lines[1].strip() == "Frechet"
    assert json.loads(lines[3]) == {"caption": "größe 数"}


def test_a_bar_in_ascii(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    like = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setenv("COLUMNS", "60")
    with (tmp_path / "out").open("wb") as file:
        monkeypatch.setattr(sys, "stderr", open_stream(file.fileno(), like))
        with BarReporter() as reporter:
            reporter.begin(0, 4)
            reporter.step(3, {"reward": 0.5, "ratio_max": 1.0, "heldout_loss_change": 0.1})
    text = (tmp_path / "out").read_bytes().decode("ascii")
    assert "reward 0.500" in text
    assert "\\u" not in text


@pytest.mark.parametrize(("term", "kind"), [("xterm", BarReporter), ("dumb", LogReporter)])
def test_a_terminal_that_moves_no_cursor_gets_lines(
    monkeypatch: pytest.MonkeyPatch, term: str, kind: type
) -> None:
    main, terminal = os.openpty()
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stderr", open_stream(terminal, None))
    assert type(make_reporter()) is kind
    os.close(main)
    os.close(terminal)


def test_a_pipe_that_is_full_and_does_not_block() -> None:
    """As a terminal does that another process has made non-blocking: nothing of it is lost."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    wanted = b"x" * 300_000
    child = os.fork()
    if child == 0:
        patient = io.BufferedWriter(PatientFile(writer))
        patient.write(wanted)
        patient.flush()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == wanted
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("text", ["run.folder=caf\udce9", "caf\udce9.toml"])
def test_an_argument_that_is_no_text(text: str) -> None:
    ddrl("train", text).failed(2, r"caf\xe9", "is not UTF-8 text", "rename")


def test_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ddrl("doctor").failed(2, "The working folder can't be found", "cd to one")


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    result = ddrl("reward", "list", "--json")
    assert result.code == 0, result.stderr
    assert "set HOME" in result.stderr
    assert "HOME" not in os.environ
