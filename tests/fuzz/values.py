"""What strangers write by accident: odd values, damaged texts, damaged files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

NUMBERS = (
    *("0", "-1", "1", "2", "3", "0.5", "1e400", "-0.0", "nan", "inf", "-inf", "1e-300", "0x10"),
    *("9223372036854775807", "9223372036854775808", "100000000000000000000", "1_000", "007", "1."),
)
WORDS = (
    *('""', '"a"', "'b'", "true", "false", "null", "None", "[]", "{}", "[1, 2]", "[0]", "[[]]"),
    *(
        "{ a = 1 }",
        '["x"]',
        "[true]",
        "[-1]",
        "[3, 1]",
        '"\\u0000"',
        '"\\u202e"',
        '"data"',
        '"cpu"',
    ),
    *('"none"', '"auto"', '"all"', '"cuda:9"', '"../.."', '"/dev/null"', '"/proc/self/mem"', '"~"'),
    *(
        '"%s {0} {x}"',
        '"файл"',
        '"\U0001f600"',
        '"a\\nb"',
        '"sliding:4"',
        '"tests:nothing"',
        '"os:x"',
    ),
    *("1979-05-27", "1979-05-27T07:32:00Z", "", " ", "=", '"', "[", "'''", "\x1b[2J", "\udcff"),
)
VALUES = NUMBERS + WORDS
TEXTS = (
    *("", " ", "\n", "seven", "a" * 5000, "\x00", "\x1b]0;x\x07", "\u202e", "\ufeff", "-1", "nan"),
    *(
        "café",
        "日本",
        "\U0001f600",
        "{}",
        "[]",
        "%s",
        "--help",
        "../../etc",
        "a\tb",
        "'",
        '"',
        "\udcff",
    ),
)
JSON_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 10**20, -(10**20), 1e308, "", "a", "\x00", "\u202e", [], {}),
    *([None], [1], {"a": 1}, [[]], "5", "../x", float("nan"), float("inf")),
)


def odd_text(rng: Random) -> str:
    return rng.choice(TEXTS)


def odd_json(rng: Random) -> Any:
    return rng.choice(JSON_VALUES)


def damage_text(text: str, rng: Random) -> str:
    """A text file after an accident: of the editor, the clipboard, or whoever wrote it."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    name = lines[at].partition("=")[0]
    accident = rng.randrange(9)
    if accident == 0:
        del lines[at]
    elif accident == 1:
        lines.insert(rng.randrange(len(lines) + 1), lines[at])
    elif accident == 2:
        lines[at] = f"{name}= {rng.choice(VALUES)}"
    elif accident == 3:
        lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
    elif accident == 4:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif accident == 5:
        lines[at] = odd_text(rng) + lines[at]
    elif accident == 6:
        return text[: rng.randrange(len(text) + 1)]
    elif accident == 7:
        lines[at] = f"{name.strip() or 'x'}.{odd_text(rng)} = {rng.choice(VALUES)}"
    else:
        lines[at] = lines[at].swapcase()
    return "\n".join(lines)


def damage_bytes(data: bytes, rng: Random) -> bytes:
    """A file after an accident of the disk or the network."""
    if not data:
        return b"\x00" * rng.randrange(100)
    at = rng.randrange(len(data))
    accident = rng.randrange(6)
    if accident == 0:
        return data[:at]
    if accident == 1:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if accident == 2:
        return data[:at] + rng.randbytes(rng.randrange(1, 64)) + data[at:]
    if accident == 3:
        return b""
    if accident == 4:
        return bytes(len(data))
    return rng.randbytes(min(len(data), 1000))


def damage_json(data: bytes, rng: Random) -> bytes:
    """A JSON document with one value, name or part of another kind."""
    document = json.loads(data)
    node, path = document, 0
    while isinstance(node, (dict, list)) and node:
        keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = rng.choice(keys)
        path += 1
        if rng.random() < 0.4 or not isinstance(node[key], (dict, list)) or not node[key]:
            if rng.random() < 0.3:
                del node[key]
            else:
                node[key] = odd_json(rng)
            break
        node = node[key]
    return json.dumps(document if path else odd_json(rng)).encode()


def damage_file(path: Path, rng: Random) -> None:
    """Something that happens to one file of a folder."""
    accident = rng.randrange(8)
    if accident == 0:
        path.unlink()
    elif accident == 1:
        path.unlink()
        path.mkdir()
    elif accident == 2:
        path.unlink()
        path.symlink_to(rng.choice(["/dev/null", "nowhere", "/etc/passwd", path.name, ".."]))
    else:
        change: Callable[[bytes, Random], bytes] = damage_bytes
        if path.suffix == ".json" and accident > 3:
            change = damage_json
        path.write_bytes(change(path.read_bytes(), rng))
