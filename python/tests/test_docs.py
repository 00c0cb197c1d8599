"""The README and docs/: every command in them is one that the programs take, and every link leads
somewhere."""

import importlib.util
import re
import shlex
import shutil

import pytest
from active_convolution import cli
from conftest import ROOT

DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = [*DOCS, ROOT / "benchmarks/NOTES.md", ROOT / "CHANGELOG.md"]


def names(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


def blocks(text):
    """The lines between ``` and ```, each with those that \\ continues it by."""
    for block in re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from re.sub(r"\\\n\s*", " ", block).splitlines()


def marked(page, mark):
    """The blocks of ``page`` right below the comment ``mark``, as they are written there, the ```
    included."""
    return re.findall(
        rf"^<!-- {re.escape(mark)} -->\n(```\n.*?^```\n)",
        page.read_text(),
        re.MULTILINE | re.DOTALL,
    )


def commands(text):
    """The words of each command that calls acu or a script: in blocks, and in the running text
    where it has arguments."""
    running = re.sub(r"^```\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for line in [*blocks(text), *re.findall(r"`([^`]+)`", running)]:
        line = re.sub(r"^(\$ |\(|mpirun -n \d+ )", "", line)
        if re.match(r"(acu|\./scripts/\S+|docker/check\.sh)( |$)", line):
            yield shlex.split(line, comments=True)


def parser_of(program):
    """The parser behind a script of Python, or None where it is one of the shell."""
    path = ROOT / program
    if path.suffix == ".sh":
        return None
    door = re.search(r'cli\.script\("(\w+)"\)', path.read_text())
    if door:
        return cli.parser(door[1])
    module = importlib.util.spec_from_file_location(path.stem, path)
    program = importlib.util.module_from_spec(module)
    module.loader.exec_module(program)
    return program.parser()


def check(words, in_docker):
    """Fails where a command is none that would start."""
    program, *arguments = words
    if program == "acu":
        subcommand, *arguments = arguments or ["--help"]
        if subcommand in ("--help", "--version", "help"):
            assert not arguments
            return
        if in_docker and subcommand not in cli.SUBCOMMANDS:  # the entrypoint's names
            assert (
                shutil.which(subcommand)
                or (ROOT / f"scripts/{subcommand}.sh").exists()
                or subcommand == "caffe"
            )
            return
        assert subcommand in cli.SUBCOMMANDS
        parser = cli.parser(subcommand)
        kinds = [name for action in parser._actions for name in action.choices or ()]
        if arguments and not (len(arguments) == 1 and arguments[0] in kinds):  # which is a name
            parser.parse_args(arguments)
        return
    assert (ROOT / program).exists()
    parser = parser_of(program)
    if parser is None:
        told = re.match(r"(#.*\n)+", (ROOT / program).read_text())[0]  # what its --help prints
        for option in arguments:
            assert not option.startswith("-") or re.search(rf"{option}\b", told), option
    elif arguments:
        parser.parse_args(arguments)


@pytest.mark.parametrize("doc", DOCS, ids=names(DOCS))
def test_every_command_is_one_that_the_programs_take(doc, capsys):
    for words in commands(doc.read_text()):
        try:
            check(words, in_docker=doc.name == "docker.md")
        except SystemExit as end:
            assert end.code == 0, f"{shlex.join(words)}: {capsys.readouterr().err}"
        except AssertionError as error:
            raise AssertionError(f"{shlex.join(words)}: {error}") from error


@pytest.mark.parametrize("subcommand", cli.SUBCOMMANDS)
def test_the_examples_of_the_help_parse(subcommand):
    examples = re.sub(r"\\\n\s*", " ", cli.parser(subcommand).epilog or "")
    for line in re.findall(r"^  (?:mpirun -n \d+ )?acu (.*)", examples, re.MULTILINE):
        name, *arguments = shlex.split(line)
        assert name == subcommand
        cli.parser(name).parse_args(arguments)


def test_commands_are_found():
    block = "$ acu plot a \\\n    --output b  # c\nprinted\nmpirun -n 2 acu train\n"
    text = f"Text `acu data x` and `acu`.\n```\n{block}```\n"
    assert list(commands(text)) == [
        ["acu", "plot", "a", "--output", "b"],
        ["acu", "train"],
        ["acu", "data", "x"],
        ["acu"],
    ]
    assert sum(len(list(commands(doc.read_text()))) for doc in DOCS) > 30


@pytest.mark.parametrize(
    "words",
    [
        "acu dance",
        "acu train x",
        "./scripts/train.py --nonsense",
        "./scripts/none.py",
        "./scripts/build.sh --fast",
        "acu plot a --nonsense",
        "acu --help more",
    ],
)
def test_commands_that_are_none_fail(words):
    with pytest.raises((AssertionError, SystemExit)):
        check(words.split(), in_docker=False)


# ---- Where they have run


@pytest.mark.parametrize("doc", DOCS, ids=names(DOCS))
def test_every_block_is_marked_with_where_it_runs_or_has_run(doc):
    """By the comment above it: a file of tests, or a machine, or the reason why not."""
    text = doc.read_text()
    marks = re.findall(r"^<!-- (.*) -->\n```\n", text, re.MULTILINE)
    assert len(marks) == len(re.findall(r"^```\n.*?^```$", text, re.MULTILINE | re.DOTALL))
    for mark in marks:
        kind, _, where = mark.partition(" in " if mark.startswith("runs") else " ")
        assert kind in ("runs", "ran", "not") and where, mark
        assert kind != "runs" or (ROOT / where).is_file(), where


# ---- Links


def anchors(path):
    """What a # may name in a page: its headings, as hosts of Markdown write them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("doc", TEXTS, ids=names(TEXTS))
def test_every_relative_link_leads_somewhere(doc):
    for link in re.findall(r"\]\(([^)\s]+)\)", doc.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = doc.parent / name if name else doc
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_read_in_one_sitting():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 140


def test_every_page_of_docs_is_listed():
    readme = (ROOT / "README.md").read_text()
    assert not [page.name for page in DOCS[1:] if f"(docs/{page.name})" not in readme]
