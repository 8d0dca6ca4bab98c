"""Commands on input that went wrong: each is made by a kind and a number alone."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from PIL import Image
from tests.cli.command import RECIPE, ROOT
from tests.fuzz.values import (
    NUMBERS,
    VALUES,
    damage_bytes,
    damage_file,
    damage_text,
    odd_json,
    odd_text,
)

from ddrl.recipe.reading.keys import key_specs

Command = list[str]


@dataclass(frozen=True)
class Start:
    """What is whole before an accident.

    Attributes:
        run: the folder of a finished run of the smallest recipe.
        pipeline: a saved diffusers pipeline.
        cache: where bases and judges lie.
    """

    run: Path
    pipeline: Path
    cache: Path


def plan(recipe: Path, start: Start, folder: Path) -> Command:
    where = [f"run.folder={folder / 'run'}", f"run.cache={start.cache}"]
    return ["train", str(recipe), "--dry-run", *where]


def recipe(rng: Random, folder: Path, start: Start) -> Command:
    """A recipe of ours that somebody edited."""
    shipped = [RECIPE.format(folder=folder / "run", cache=start.cache)]
    names = ("digits", "words", "moving_digits", "sd35_medium_ocr")
    shipped += [(ROOT / "recipes" / f"{name}.toml").read_text() for name in names]
    # Its own weights would be traced at their true size, which takes many seconds.
    text = re.sub('(?m)^path = "stabilityai.*', f'path = "{start.pipeline}"', rng.choice(shipped))
    for _ in range(rng.choice([1, 1, 2, 5])):
        text = damage_text(text, rng)
    data = text.encode(errors="surrogateescape")
    if rng.random() < 0.1:
        data = damage_bytes(data, rng)
    path = folder / "recipe.toml"
    path.write_bytes(data)
    return plan(path, start, folder)


def key(rng: Random) -> str:
    name = rng.choice(sorted(key_specs()))
    if name.startswith(("reward.", "evaluation.reward.")):
        name = name.replace("reward.", f"reward.{rng.choice(['0', '1', '-1', 'x', '99'])}.", 1)
    accident = rng.randrange(12)
    if accident == 0:
        return name[:-1]
    if accident == 1:
        return f"{name}.{odd_text(rng)}"
    if accident == 2:
        return odd_text(rng)
    return name


def overrides(rng: Random, folder: Path, start: Start) -> Command:
    """Keys that somebody set on the command line."""
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(folder=folder / "run", cache=start.cache))
    chosen = []
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        name = key(rng)
        spec = key_specs().get(name)
        value = rng.choice(VALUES)
        if spec is not None and rng.random() < 0.4:
            value = rng.choice(spec.choices or NUMBERS)
        chosen.append(f"{name}{rng.choice(['=', '=', '=', '=', '', '==', ' = '])}{value}")
    return [*plan(path, start, folder), *chosen]


def arguments(rng: Random, folder: Path, start: Start) -> Command:
    """Options that somebody tried, on a run that is whole."""
    run, out = str(start.run), str(folder / "out")
    options = {
        "sample": (
            "--num",
            "--prompt",
            "--seed",
            "--step",
            "--out",
            "--base",
            "--guidance",
            "--steps",
        ),
        "evaluate": ("--step", "--seed", "--json", "--out", "--prompts", "--samples"),
        "export": ("--step", "--out", "--merged", "--raw", "--format"),
        "compare": ("--seeds", "--workers", "--dry-run"),
        "doctor": ("--json", "--cache", "--model"),
        "data check": ("--frames", "--fps", "--json", "--allow-outside"),
        "reward audit": ("--data", "--limit", "--option", "--json", "--seed"),
        "reward list": ("--json", "--all"),
    }
    name = rng.choice(list(options))
    command = name.split()
    if name in {"sample", "evaluate", "export", "data check"}:
        command.append(rng.choice([run, run, run, str(folder), "nowhere", odd_text(rng)]))
    elif name == "reward audit":
        command += [rng.choice(["ink", "inq", odd_text(rng)]), "--limit", "3"]
    elif name == "compare":
        command.append(rng.choice([run, "nowhere", odd_text(rng)]))
    bad = False
    for option in rng.sample(options[name], rng.randrange(1, 3)):
        command.append(option)
        if rng.random() < 0.7:
            command.append(rng.choice([*NUMBERS, *map(odd_text, [rng] * 5)]))
            bad = True
    if name in {"sample", "export", "evaluate"} and (not bad or "--out" not in command):
        command += ["--out", out]
    return command


def picture(rng: Random) -> bytes:
    file = io.BytesIO()
    mode = rng.choice(["RGB", "RGBA", "L", "P", "1", "CMYK", "I;16", "LA", "F"])
    format_name = {"CMYK": "JPEG", "F": "TIFF"}.get(mode, "PNG")
    size = rng.choice([(16, 16), (1, 1), (1, 40), (17, 9)])
    Image.new(mode, size).save(file, format_name)
    return file.getvalue()


def sample(rng: Random) -> dict[str, bytes]:
    """The files of a sample, as any of the ways has them."""
    name = rng.choice(["0", "a b", "é", "x" * 120, "-n", "%41", ".hidden", "CON", "a.b.c"])
    record = json.dumps({rng.choice(["caption", "text", "prompt"]): odd_json(rng)})
    caption = rng.choice([odd_text(rng), record, "a thing"]).encode(errors="surrogateescape")
    made = {name + rng.choice([".png", ".jpg", ".webp", ".gif", ".mp4"]): picture(rng)}
    if rng.random() < 0.9:
        made[name + rng.choice([".txt", ".caption", ".json", ".TXT", ".cls"])] = caption
    if rng.random() < 0.4:
        damaged = rng.choice(list(made))
        made[damaged] = damage_bytes(made[damaged], rng)
    return made


def data(rng: Random, folder: Path, start: Start) -> Command:
    """A data set from somewhere."""
    files: dict[str, bytes] = {}
    for _ in range(rng.randrange(4)):
        files |= sample(rng)
    root = folder / "data"
    root.mkdir()
    form = rng.randrange(4)
    if form == 1:
        with tarfile.open(root / "0.tar", "w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                if rng.random() < 0.1:
                    member.type = rng.choice([tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
                    member.linkname = "/etc/passwd"
                archive.addfile(member, io.BytesIO(content))
        if rng.random() < 0.4:
            (root / "0.tar").write_bytes(damage_bytes((root / "0.tar").read_bytes(), rng))
    else:
        for name, content in files.items():
            (root / name).write_bytes(content)
    if form == 2:
        names = [*files, "nowhere.png", "/etc/passwd", "../x.png"]
        rows = [{rng.choice(["image", "file_name", "video", "media"]): rng.choice(names)}]
        rows += [{"file_name": odd_json(rng), "text": odd_json(rng), "caption": odd_json(rng)}]
        text = "\n".join(json.dumps(row) for row in rows).encode()
        place = root / rng.choice(["list.jsonl", "metadata.jsonl", "metadata.csv", "list.json"])
        place.write_bytes(damage_bytes(text, rng) if rng.random() < 0.3 else text)
        if rng.random() < 0.5:
            return ["data", "check", str(place)]
    return ["data", "check", str(root), *rng.choice([[], ["--json"], ["--frames", "4"]])]


def checkpoint(rng: Random, folder: Path, start: Start) -> Command:
    """A run's folder after an accident, and what somebody does with it."""
    run = folder / "run"
    shutil.copytree(start.run, run)
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.name != "lock"]
    for path in rng.sample(files, rng.choice([1, 1, 2])):
        if path.is_file():
            damage_file(path, rng)
    out = ["--out", str(folder / "out")]
    command = rng.choice(["sample", "export", "train", "evaluate", "sample"])
    if command == "train":
        again = folder / "recipe.toml"
        text = RECIPE.format(folder=run, cache=start.cache)
        again.write_text(text.replace("steps = 4\ncheckpoint", "steps = 5\ncheckpoint"))
        return ["train", str(again), "evaluation.every=0"]
    if command == "evaluate":
        return ["evaluate", str(run), *out, "--step", rng.choice(["2", "4", "best", "3"])]
    return [command, str(run), *out, *(["--num", "1"] if command == "sample" else [])]


def pipeline(rng: Random, folder: Path, start: Start) -> Command:
    """A model's folder as somebody downloaded it."""
    model = folder / "model"
    shutil.copytree(start.pipeline, model)
    files = [path for path in sorted(model.rglob("*")) if path.is_file()]
    configs = [path for path in files if path.suffix == ".json"]
    damage_file(rng.choice([*configs, *configs, *files]), rng)
    path = folder / "recipe.toml"
    path.write_text(f"""\
[model]
family = "diffusers"
path = "{model}"
lora.rank = 4
[data]
source = "files"
path = "{folder}"
height = 16
width = 16
[[reward]]
name = "ink"
""")
    return plan(path, start, folder)


def comparison(rng: Random, folder: Path, start: Start) -> Command:
    """A comparison that somebody wrote."""
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder / "run", cache=start.cache))
    text = (ROOT / "recipes/compare/digits.toml").read_text()
    text = text.replace("../digits.toml", "recipe.toml")
    text = text.replace('folder = "runs', f'folder = "{folder}/runs')
    for _ in range(rng.choice([1, 1, 2, 4])):
        text = damage_text(text, rng)
    path = folder / "comparison.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    return ["compare", str(path), "--dry-run"]


def prompts(rng: Random, folder: Path, start: Start) -> Command:
    """A file of prompts, trained on with the pipeline."""
    place = folder / rng.choice(["prompts.txt", "prompts.jsonl", "prompts.json", "prompts.csv"])
    rows = [odd_text(rng) for _ in range(rng.randrange(6))]
    if place.suffix == ".jsonl":
        rows = [json.dumps({"prompt": row, "n": odd_json(rng)}) for row in rows]
        rows.append(json.dumps(odd_json(rng)))
    content = "\n".join(rows).encode(errors="surrogateescape")
    place.write_bytes(damage_bytes(content, rng) if rng.random() < 0.2 else content)
    path = folder / "recipe.toml"
    path.write_text(f"""\
[model]
family = "diffusers"
path = "{start.pipeline}"
[data]
source = "prompts"
anchor = "synthetic"
path = "{place}"
height = 16
width = 16
[[reward]]
name = "ink"
""")
    return plan(path, start, folder)


KINDS: dict[str, Callable[[Random, Path, Start], Command]] = {
    function.__name__: function
    for function in (
        recipe,
        overrides,
        arguments,
        data,
        checkpoint,
        pipeline,
        comparison,
        prompts,
    )
}

torch.set_num_threads(1)
