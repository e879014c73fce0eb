"""Text in aligned columns."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], width: int = 0) -> str:
    """Aligns the first column left and the others right.

    Args:
      rows: the cells, the header first.
      width: of the terminal; what does not fit goes below, under the first column again. 0: no end.

    >>> print(aligned([["method", "drop"], ["own", "7.5"]]))
    method  drop
    own      7.5
    """
    first, *columns = ([*column] for column in zip(*rows, strict=True))
    first = [cell.ljust(max(map(len, first))) for cell in first]
    block, blocks = first, []
    for column in columns:
        cells = [f"  {cell:>{max(map(len, column))}}" for cell in column]
        if width and len(block[0] + cells[0]) > width and block is not first:
            blocks.append(block)
            block = first
        block = [line + cell for line, cell in zip(block, cells, strict=True)]
    return "\n\n".join("\n".join(block) for block in [*blocks, block])
