"""What pictures and pages share: colours, names as one line, a choice of many, rows of panels."""

import math
import unicodedata

import numpy as np

GROUP_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe, Ito
LONGEST = 34  # characters of a name above a panel


def plain(name, longest=None):
    """A name as a line of text: what controls, breaks or turns a line is a replacement character,
    and beyond ``longest`` characters the middle is left out. It is nobody's formula or path."""
    line = "".join(
        "\ufffd" if unicodedata.category(each)[0] == "C" or each in "\u2028\u2029" else each
        for each in name
    )
    if longest is not None and len(line) > longest:
        line = f"{line[: longest // 2]}…{line[longest // 2 + 1 - longest :]}"
    return line


def spread(count, most):
    """The indices of ``most`` among ``count`` things, evenly, or of all; the first and the last
    among them."""
    return np.unique(np.linspace(0, count - 1, most).astype(int))


def arrange(count):
    """(rows, columns) for ``count`` panels, four or three to a row, whichever leaves fewer places
    empty; for very many a square."""
    if count > 32:
        columns = math.isqrt(count - 1) + 1
    else:
        columns = min(count, min((4, 3), key=lambda width: -count % width))
    return -(-count // columns), columns


def colour(group):
    """That of a position group, or of a run."""
    return GROUP_COLOURS[group % len(GROUP_COLOURS)]
