"""What a compositional prompt asks for: objects, counts, colours and positions (GenEval)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COLORS = (
    *("red", "orange", "yellow", "green", "blue"),
    *("purple", "pink", "brown", "black", "white"),
)
"""GenEval's colours; the classifier chooses among them."""

RELATIONS = ("left of", "right of", "above", "below")

_OTHER_COLORS = {
    *("gray", "grey", "silver", "gold", "golden", "cyan", "magenta", "beige", "turquoise"),
    *("violet", "maroon", "teal", "navy", "tan", "colorful", "colourful"),
}
_NUMBERS = "zero one two three four five six seven eight nine ten".split()  # noqa: SIM905
_ARTICLES = {"a", "an", "the"}
_WORDS_OF_A_NAME = 2
# A name with one of these in it is a part of a sentence that the templates do not cover.
_NOT_IN_NAMES = {
    *_ARTICLES,
    *_NUMBERS,
    *("and", "or", "of", "on", "in", "at", "by", "for", "with", "without", "near", "under"),
    *("over", "behind", "beside", "between", "inside", "next", "to", "from", "no", "not"),
    *("is", "are", "left", "right", "above", "below", "top", "photo", "picture", "image"),
    *("many", "several", "some", "few", "two", "pair", "its", "that", "which"),
}
_IRREGULAR = dict(
    pair.split(":")
    for pair in (  # noqa: SIM905
        "people:person men:man women:woman children:child mice:mouse geese:goose feet:foot "
        "teeth:tooth knives:knife leaves:leaf wolves:wolf shelves:shelf loaves:loaf buses:bus "
        "skises:skis"  # as GenEval forms it
    ).split()
)
_PREFIX = re.compile(r"^(?:an?|the)?\s*(?:photo|picture|image)\s+of\s+")
_BETWEEN = re.compile(
    r"\s+(?:(?:(?:is|are)\s+)?(?:(?:to|on)\s+the\s+)?(?P<side>left|right)\s+of"
    r"|(?:(?:is|are)\s+)?(?P<vertical>above|below)|and)\s+"
)


@dataclass(frozen=True)
class Item:
    """One clause: at least ``count`` objects of a name.

    Attributes:
        name: name of the object, in the singular.
        count: how many, at least 1.
        color: one of :data:`COLORS` that they have; empty: any.
        relation: one of :data:`RELATIONS` in which they are to ``target``; empty: any.
        target: the item that the relation is to, by its place in ``include``.
    """

    name: str
    count: int = 1
    color: str = ""
    relation: str = ""
    target: int = 0


@dataclass(frozen=True)
class Composition:
    """Everything that a prompt asks for.

    Attributes:
        include: items that all have to be there.
        exclude: pairs of a name and the number from which on there are too many.
        counting: whether the detector's threshold for counting holds.
    """

    include: tuple[Item, ...]
    exclude: tuple[tuple[str, int], ...] = ()
    counting: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What has to be looked for, without repetition."""
        names = [item.name for item in self.include] + [name for name, _ in self.exclude]
        return tuple(dict.fromkeys(names))


def composition_of(text: str, metadata: Mapping[str, Any]) -> Composition:
    """Return what a prompt asks for, by metadata in GenEval's form if there is, else by its text.

    Raises:
        ValueError: it can't be understood; the message is a clause that says why.
    """
    if "include" in metadata:
        return _from_metadata(metadata)
    return parse(text)


def parse(prompt: str) -> Composition:
    """Understand a prompt that is written after GenEval's templates.

    An item is "a dog", "a red car" or "three dogs"; a prompt is one item, items joined by "and",
    or two items with "left of", "right of", "above" or "below" in between. "A photo of" may
    stand in front. A number stands for exactly that many, "a" for at least one.

    Raises:
        ValueError: it is written otherwise; the message is a clause that says where.
    """
    text = _PREFIX.sub("", " ".join(prompt.lower().split()).rstrip(".!"))
    if not text:
        raise ValueError("the prompt is empty")
    parts, relations = [], []
    end = 0
    for found in _BETWEEN.finditer(text):
        parts.append(text[end : found.start()])
        side, vertical = found["side"], found["vertical"]
        relations.append(f"{side} of" if side else vertical or "")
        end = found.end()
    items = [_item(part) for part in (*parts, text[end:])]
    exclude = tuple((item.name, item.count + 1) for item, exact in items if exact)
    include = [item for item, _ in items]
    if any(relations):
        if len(include) != 2:
            raise ValueError("the prompt relates other than two objects to each other")
        # As in GenEval: the second object comes first, and the first one is placed by it.
        one, other = include
        placed = Item(one.name, one.count, one.color, next(filter(None, relations)), 0)
        include = [other, placed]
    if len({item.name for item in include}) < len(include):
        raise ValueError("the prompt names the same object twice")
    return Composition(tuple(include), exclude, bool(exclude))


def _item(text: str) -> tuple[Item, bool]:
    """Read an item, and whether its number is exact."""
    words = text.split()
    first, rest = (words[0], words[1:]) if words else ("", [])
    exact = first in _NUMBERS[1:] or first.isdecimal()
    if not (exact or first in _ARTICLES):
        raise ValueError(f"{text!r} does not begin with a, an or a number")
    count = (int(first) if first.isdecimal() else _NUMBERS.index(first)) if exact else 1
    color = rest.pop(0) if len(rest) > 1 and rest[0] in COLORS else ""
    if len(rest) > 1 and rest[0] in _OTHER_COLORS:
        raise ValueError(f"the colour {rest[0]!r} is not one of {', '.join(COLORS)}")
    if not 1 <= len(rest) <= _WORDS_OF_A_NAME or not all(_is_name(word) for word in rest):
        raise ValueError(f"{text!r} is not a number, a colour and the name of an object")
    if count < 1:
        raise ValueError(f"{text!r} asks for nothing")
    if count > 1:
        rest[-1] = _singular(rest[-1])
    return Item(" ".join(rest), count, color), exact


def _is_name(word: str) -> bool:
    return word.replace("-", "").replace("'", "").isalpha() and word not in _NOT_IN_NAMES


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zzes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "skis")) else word


def _from_metadata(metadata: Mapping[str, Any]) -> Composition:
    """Read GenEval's own form, a line of its ``evaluation_metadata.jsonl``."""
    clauses, others = metadata["include"], metadata.get("exclude", ())
    if not _is_list(clauses) or not _is_list(others) or not (clauses or others):
        raise ValueError("the prompt's metadata has no list of clauses in include or exclude")
    include: list[Item] = []
    for clause in clauses:
        name, count = _name_and_count(clause)
        color = clause.get("color", "")
        if color and color not in COLORS:
            raise ValueError(f"the metadata's colour {color!r} is not one of {', '.join(COLORS)}")
        relation, target = clause.get("position") or ("", 0)
        if relation and (
            relation not in RELATIONS
            or not isinstance(target, int)
            or not 0 <= target < len(include)
        ):
            raise ValueError(
                f"the metadata's position {[relation, target]} is not one of "
                f"{', '.join(RELATIONS)} with the number of an earlier clause"
            )
        include.append(Item(name, count, color, relation, target))
    exclude = tuple(_name_and_count(clause) for clause in others)
    return Composition(tuple(include), exclude, metadata.get("tag") == "counting")


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _name_and_count(clause: object) -> tuple[str, int]:
    if isinstance(clause, Mapping):
        name, count = clause.get("class"), clause.get("count")
        whole = isinstance(count, int) and not isinstance(count, bool) and count >= 1
        if isinstance(name, str) and name.strip() and whole:
            return name, int(count or 0)
    raise ValueError(f"the metadata's clause {clause!r} has no class, or no count of at least 1")
