"""Tables of text."""


def aligned(rows, right=False):
    """The ``rows``, lists of equally many cells (str), with every cell as wide as the widest of its column.

    ``right`` moves all but the first column's cells to the right, as numbers want it.
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        [
            cell.rjust(width) if right and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        for row in rows
    ]
