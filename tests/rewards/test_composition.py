"""What prompts ask for, and GenEval's rules on given boxes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from ddrl.rewards.composition.prompt import (
    COLORS,
    RELATIONS,
    Composition,
    Item,
    composition_of,
    parse,
)
from ddrl.rewards.composition.rules import Box, conditions, relations, suppress


def box(x: float, y: float, size: float = 10, score: float = 0.9) -> Box:
    return Box(x - size / 2, y - size / 2, x + size / 2, y + size / 2, score)


def judge(text: str, found: dict[str, list[Box]], color: str = "red") -> list[float]:
    return conditions(parse(text), found, lambda *_: color)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a photo of a bench", Composition((Item("bench"),))),
        ("An orange.", Composition((Item("orange"),))),
        ("a photo of a dog and a TV remote", Composition((Item("dog"), Item("tv remote")))),
        ("a photo of three  dogs", Composition((Item("dog", 3),), (("dog", 4),), True)),
        (
            "a picture of 2 wine glasses",
            Composition((Item("wine glass", 2),), (("wine glass", 3),), True),
        ),
        ("a photo of an orange bench", Composition((Item("bench", 1, "orange"),))),
        ("an orange orange", Composition((Item("orange", 1, "orange"),))),
        (
            "a photo of a dog right of a teddy bear",
            Composition((Item("teddy bear"), Item("dog", 1, "", "right of", 0))),
        ),
        (
            "a dog is to the left of a cat",
            Composition((Item("cat"), Item("dog", 1, "", "left of", 0))),
        ),
        (
            "a photo of a red apple above a blue car",
            Composition((Item("car", 1, "blue"), Item("apple", 1, "red", "above", 0))),
        ),
        (
            "a photo of a white dog and a black car",
            Composition((Item("dog", 1, "white"), Item("car", 1, "black"))),
        ),
        (
            "a photo of two dogs below one cat",
            Composition(
                (Item("cat"), Item("dog", 2, "", "below", 0)), (("dog", 3), ("cat", 2)), True
            ),
        ),
    ],
)
def test_prompts_of_the_templates(text: str, wanted: Composition) -> None:
    assert parse(text) == wanted


@pytest.mark.parametrize(
    ("plural", "name"),
    [
        *(("dogs", "dog"), ("benches", "bench"), ("benchs", "bench"), ("knives", "knife")),
        *(("knifes", "knife"), ("buses", "bus"), ("skises", "skis"), ("sheeps", "sheep")),
        *(("sheep", "sheep"), ("puppies", "puppy"), ("ties", "tie"), ("boxes", "box")),
        *(("toothbrushs", "toothbrush"), ("glasses", "glass"), ("horses", "horse")),
        *(("people", "person"), ("vases", "vase"), ("computer mice", "computer mouse")),
    ],
)
def test_the_singular(plural: str, name: str) -> None:
    assert parse(f"a photo of four {plural}").include == (Item(name, 4),)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("", "is empty"),
        ("a photo of", "not a number, a colour"),
        ("a photo of dogs", "does not begin with a, an or a number"),
        ("a photo of a man riding a horse", "not a number, a colour and the name"),
        ("a photo of a dog on a bench", "not a number, a colour and the name"),
        ("a photo of a very old rusty car", "not a number, a colour and the name"),
        ("a photo of a grey car", "'grey' is not one of red, orange"),
        ("a photo of zero dogs", "does not begin"),
        ("a photo of 0 dogs", "asks for nothing"),
        ("a photo of a dog and a dog", "same object twice"),
        ("a photo of a dog left of a cat and a cow", "other than two"),
        ("a dog left of a cat above a cow", "other than two"),
        ("a photo of a dog left of", "not a number, a colour"),
        ("a photo of several dogs", "does not begin"),
        ('a sign that says "left of a cat"', "not a number, a colour"),
    ],
)
def test_other_prompts_are_not_guessed_at(text: str, phrase: str) -> None:
    with pytest.raises(ValueError, match=phrase):
        parse(text)


def test_metadata_of_geneval_goes_before_the_text() -> None:
    line: dict[str, Any] = {
        "tag": "counting",
        "include": [
            {"class": "hot dog", "count": 2, "color": "red"},
            {"class": "cat", "count": 1, "position": ["left of", 0]},
        ],
        "exclude": [{"class": "hot dog", "count": 3}],
        "prompt": "two hot dogs",
    }
    assert composition_of("whatever", line) == Composition(
        (Item("hot dog", 2, "red"), Item("cat", 1, "", "left of", 0)), (("hot dog", 3),), True
    )
    assert composition_of("a cat", {"id": 3}) == parse("a cat")


@pytest.mark.parametrize(
    "line",
    [
        {"include": "dog"},
        {"include": []},
        {"include": ["dog"]},
        {"include": [{"class": "dog"}]},
        {"include": [{"class": "dog", "count": 0}]},
        {"include": [{"class": "dog", "count": True}]},
        {"include": [{"class": "dog", "count": 1, "color": "grey"}]},
        {"include": [{"class": "dog", "count": 1, "position": ["left of", 0]}]},
        {"include": [{"class": "", "count": 1}]},
        {"include": [{"class": "dog", "count": 1}], "exclude": [{"class": "cat"}]},
    ],
)
def test_metadata_that_says_nothing(line: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="metadata"):
        composition_of("a dog", line)
    position = {"class": "dog", "count": 1, "position": ["near", 0]}
    with pytest.raises(ValueError, match="position"):
        composition_of("a dog", {"include": [{"class": "cat", "count": 1}, position]})


# Every 15 degrees, without the borders of the sectors.
@pytest.mark.parametrize("angle", [a for a in range(0, 360, 15) if a % 30 or a % 90 == 0])
def test_a_relation_is_by_the_angle(angle: int) -> None:
    """Far apart, a direction counts within 60 degrees of its axis: two of them on a diagonal."""
    dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    found = relations(box(1000 * dx, 1000 * dy, 0.1), box(0, 0, 0.1))
    share = {"right of": dx, "left of": -dx, "below": dy, "above": -dy}
    assert found == {name for name, value in share.items() if value > 0.5}


def test_a_relation_needs_a_distance() -> None:
    # Two boxes of 10 lose .1 (10 + 10) = 2 of the offset: more than half of it is left past 4.
    assert relations(box(3.9, 0), box(0, 0)) == set()
    assert relations(box(4.1, 0), box(0, 0)) == {"right of"}
    assert relations(box(0, -4.1), box(0, 0)) == {"above"}
    assert relations(box(0, -4.1), box(0, 0), margin=0.2) == set()
    assert relations(box(0, 0), box(0, 0), margin=0) == set()


def test_relations_turn_around() -> None:
    opposite = {"left of": "right of", "above": "below", "right of": "left of", "below": "above"}
    for x, y in itertools.product((-40, -3, 0, 3, 40), repeat=2):
        there, back = relations(box(x, y), box(0, 0, 20)), relations(box(0, 0, 20), box(x, y))
        assert back == {opposite[name] for name in there}
    assert set(opposite) == set(RELATIONS)


def test_suppression_keeps_the_best() -> None:
    one, same, near = box(10, 10), box(10.5, 10, score=0.8), box(15, 10, score=0.95)
    # 15 against 10: overlap 5 x 10 of 150, a third.
    assert suppress([one, same, near], max_overlap=0.5, limit=9) == [near, one]
    assert suppress([one, same, near], max_overlap=0.3, limit=9) == [near]
    assert suppress([same, near, one], max_overlap=1.0, limit=9) == [near, one, same]
    assert suppress([same, near, one], max_overlap=1.0, limit=2) == [near, one]
    assert suppress([], max_overlap=0.5, limit=2) == []


@pytest.mark.parametrize(
    ("text", "numbers", "met"),
    [
        ("a dog", (0,), [0]),
        ("a dog", (1,), [1]),
        ("a dog", (5,), [1]),
        ("three dogs", (0,), [0]),
        ("three dogs", (2,), [2 / 3]),
        ("three dogs", (3,), [1]),
        ("three dogs", (4,), [3 / 4]),
        ("one dog", (2,), [1 / 2]),
        ("a dog and a cat", (2, 0), [1, 0]),
        ("a dog and two cats", (1, 3), [1, 2 / 3]),
    ],
)
def test_numbers(text: str, numbers: tuple[int, ...], met: list[float]) -> None:
    found = dict(zip(("dog", "cat"), ([box(0, 0)] * n for n in numbers), strict=False))
    assert judge(text, found) == pytest.approx(met)


def test_colors() -> None:
    assert judge("a red dog", {"dog": [box(0, 0)]}) == [1, 1]
    assert judge("a blue dog", {"dog": [box(0, 0)]}) == [1, 0]
    assert judge("a red dog", {}) == [0, 0]
    assert judge("two red dogs", {"dog": [box(0, 0)]}) == [1 / 2, 1 / 2]
    assert judge("a red dog and a blue cat", {"dog": [box(0, 0)], "cat": [box(9, 9)]}) == [
        1,
        1,
        1,
        0,
    ]
    asked = []

    def color_of(name: str, box: Box) -> str:
        asked.append((name, box.score))
        return "red" if box.score < 0.8 else "blue"

    many = [box(0, 0, score=s) for s in (0.9, 0.7, 0.6)]
    assert conditions(parse("a red dog"), {"dog": many}, color_of) == [1, 0]
    assert asked == [("dog", 0.9)]  # the best one, as in GenEval
    assert len(COLORS) == 10


def test_positions() -> None:
    left, right = box(0, 0), box(50, 0)
    text = "a dog left of a cat"
    assert judge(text, {"dog": [left], "cat": [right]}) == [1, 1, 1]
    assert judge(text, {"dog": [right], "cat": [left]}) == [1, 1, 0]
    assert judge(text, {"dog": [left]}) == [0, 1, 0]
    assert judge(text, {"cat": [left]}) == [1, 0, 0]
    assert judge(text, {"dog": [left, box(90, 0)], "cat": [right]}) == [1, 1, 1]
    both = {"dog": [left, box(90, 0)], "cat": [right]}
    assert judge("two dogs left of a cat", both) == [1, 1, 1 / 2]


def test_what_has_to_be_absent() -> None:
    line = {"include": [], "exclude": [{"class": "dog", "count": 1}, {"class": "cat", "count": 3}]}
    wanted = composition_of("", line)
    found = {"dog": [box(0, 0)], "cat": [box(0, 0)] * 4}
    assert conditions(wanted, {}, lambda *_: "") == [1, 1]
    assert conditions(wanted, found, lambda *_: "") == [0, 2 / 4]


def genevals_verdict(wanted: Composition, found: dict[str, list[Box]], color: str) -> bool:
    """GenEval's rules once more, as a verdict: written from the paper's description."""
    good: list[list[Box] | None] = []
    for item in wanted.include:
        boxes = found.get(item.name, [])[: item.count]
        fine = len(boxes) == item.count and item.color in ("", color)
        if fine and item.relation:
            targets = good[item.target]
            fine = targets is not None and all(
                item.relation in relations(one, other) for one in boxes for other in targets
            )
        good.append(boxes if fine else None)
    absent = all(len(found.get(name, [])) < limit for name, limit in wanted.exclude)
    return absent and None not in good


def test_all_conditions_met_is_genevals_verdict() -> None:
    texts = [
        *("a dog", "a dog and a cat", "two dogs", "a red dog", "a dog left of a cat"),
        *("a red dog and a blue cat", "two red dogs above a cat", "one cat and two dogs"),
    ]
    places = [box(0, 0), box(60, 0), box(0, 60), box(60, 60)]
    seen = set()
    for text, color in itertools.product(texts, ("red", "blue")):
        wanted = parse(text)
        for dogs, cats in itertools.product(range(4), range(3)):
            for order in itertools.permutations(places):
                found = {"dog": list(order[:dogs]), "cat": list(order[4 - cats :])}
                met = conditions(wanted, found, lambda *_, color=color: color)
                assert all(0 <= value <= 1 for value in met)
                verdict = genevals_verdict(wanted, found, color)
                assert (min(met) == 1) == verdict
                seen.add((text, verdict))
    assert {text for text, verdict in seen if verdict} == set(texts) - {"a red dog and a blue cat"}
