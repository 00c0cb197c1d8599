"""The HTML file of a report: the template, with style, script and data in it."""

import html
import json
import string
from pathlib import Path

from ...files import whole_file
from . import content

_HERE = Path(__file__).parent
_SCRIPTS = (
    "elements.js",
    "panel.js",
    "errors.js",
    "classes.js",
    "chart.js",
    "player.js",
    "page.js",
)  # in the order of their use


def write(folders, output):
    """Writes the report about the run folders ``folders`` to ``output``, whole or not at all; returns its bytes.

    Raises UserError where a folder is no run, or one of its files is damaged.
    """
    page = render(content.read(folders)).encode()
    with whole_file(output, "wb") as file:
        file.write(page)
    return len(page)


def render(report):
    """The page that shows ``report``, as content.read gives it."""
    names = ", ".join(run["name"] for run in report["runs"])
    return string.Template(_text("page.html")).substitute(
        title=html.escape(f"Training runs: {names}"),
        style=_text("page.css"),
        script="\n".join(map(_text, _SCRIPTS)),
        data=_json(report),
    )


def _text(name):
    return (_HERE / name).read_text(encoding="utf-8")


def _json(value):
    """JSON that can stand in an HTML script element, whatever its strings hold: none ends or comments the element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
