"""Tables of the commands: as wide as they have to be, or blocks of lines where that is too wide."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Collection, Sequence

from ddrl.errors import printable

_NAME = 16  # characters of the first column, at least, before it is folded
_LEAST = 16  # columns of a terminal, at least


def print_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)
) -> None:
    """Print a table to stdout, whose cells are made printable.

    On a terminal that is too narrow for it each row becomes a block, "head: cell" a line, so that
    no cell is cut in two. Elsewhere a row is a line, however long.

    Args:
        heads: of the columns; the first one names the rows.
        rows: cells as text.
        left: columns that are not aligned to the right.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = [[printable(cell) for cell in row] for row in rows]
    is_terminal = sys.stdout.isatty()
    sizes = [max(len(row[at]) for row in [heads, *shown]) for at in range(len(heads))]
    needed = sum(sizes) + 3 * len(sizes)
    width = None if is_terminal else needed
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, width=width)
    if is_terminal and needed - max(sizes[0] - _NAME, 0) > console.width:
        _print_blocks(heads, shown, max(console.width, _LEAST))
        return
    table = Table(box=box.SIMPLE_HEAD if is_terminal else None, pad_edge=False)
    for at, head in enumerate(heads):
        is_left = at in left
        table.add_column(
            head,
            justify="left" if is_left else "right",
            no_wrap=at > 0,
            overflow="fold",
        )
    for row in shown:
        table.add_row(*row)
    console.print(table)


def _print_blocks(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> None:
    for number, row in enumerate(rows):
        lines = [f"{head}: {cell}" for head, cell in zip(heads[1:], row[1:], strict=True) if cell]
        texts = [textwrap.fill(row[0], width, subsequent_indent="  ")]
        texts += [
            textwrap.fill(line, width, initial_indent="  ", subsequent_indent="    ")
            for line in lines
        ]
        sys.stdout.write("\n" * bool(number) + "\n".join(texts) + "\n")
