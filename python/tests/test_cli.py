"""The command ``acu``: what it lists, what its parsers take and refuse, and how fast it is
there."""

import ast
import importlib
import re
import subprocess
import sys

import pytest
from active_convolution import __version__, cli
from active_convolution.caffe import locate
from active_convolution.cli import options, version
from conftest import ROOT

ACU = ROOT / "scripts/acu"


def acu(*arguments, program=(ACU,), **options):
    return subprocess.run(
        [*program, *map(str, arguments)], capture_output=True, text=True, **options
    )


# ---- acu itself


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",), ("help",)])
def test_help_lists_the_sub_commands_in_the_order_of_use(arguments, tmp_path):
    done = acu(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^  (\w+)", done.stdout, re.MULTILINE) == list(cli.SUBCOMMANDS)


def test_an_unknown_sub_command_is_one_line():
    done = acu("dan\nce", "--help")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no sub-command dan ce: acu --help lists them\n"


@pytest.mark.parametrize(
    "program", [(sys.executable, "-m", "active_convolution"), (ACU,)], ids=["module", "script"]
)
def test_two_ways_to_call_it(program, tmp_path):
    environment = {"PYTHONPATH": str(ROOT / "python"), "PATH": ""}
    done = acu("plot", "--help", program=program, cwd=tmp_path, env=environment)
    assert done.returncode == 0 and done.stdout.startswith("usage: acu plot ")


@pytest.mark.parametrize("script, subcommand", [("create_lmdb", "data"), ("train", "train")])
def test_scripts_that_people_look_for_are_sub_commands(script, subcommand):
    done = acu("--help", program=(ROOT / f"scripts/{script}.py",))
    assert done.stdout.partition("\n\n")[2] == acu(subcommand, "--help").stdout.partition("\n\n")[2]


def test_it_is_on_the_path_of_a_build(tmp_path):
    if not (locate.BUILD / "env.sh").exists():
        pytest.skip("an image of docker/ has no env.sh")
    done = subprocess.run(
        ["bash", "-c", f"unset PYTHONPATH; . '{locate.BUILD}/env.sh' && acu --help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("usage: acu ")


@pytest.mark.parametrize("subcommand", cli.SUBCOMMANDS)
def test_each_sub_command_tells_its_use_and_imports_nothing_heavy_for_it(subcommand):
    code = (
        "import sys\nfrom active_convolution import cli\n"
        f"print(cli.parser({subcommand!r}).format_help())\n"
        "heavy = {'caffe', 'cv2', 'matplotlib', 'numpy', 'scipy'}\n"
        "assert not heavy & {name.split('.')[0] for name in sys.modules}"
    )
    done = acu(code, program=(sys.executable, "-c"), env={"PYTHONPATH": str(ROOT / "python")})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: acu {subcommand} ")


# ---- The version


def test_version_of_this_build():
    done = acu("--version")
    assert (done.returncode, done.stderr) == (0, "")
    ours, caffe, built = done.stdout.splitlines()
    assert ours == f"acu {__version__} (active-convolution)"
    assert re.match(r"Caffe \d\S* with ActiveConvolution, /", caffe)
    assert re.match(r"built from .+ for (the CPU|GPUs of .+), BLAS \w+, OpenMP (on|off), ", built)


def test_version_without_a_build(tmp_path):
    done = acu("--version", env={"ACTIVE_CONVOLUTION_BUILD": str(tmp_path), "PATH": ""})
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"acu {__version__} .*\nno Caffe: .*scripts/build.sh\n", done.stdout)


BUILT = """\
CAFFE_SOURCE_DIR=/home/you/a=b, caffe
CPU_ONLY=OFF
CUDA_ARCH_BIN=80 90
USE_NCCL=1
BLAS=Open
USE_OPENMP=ON
CMAKE_BUILD_TYPE=Release
"""


def test_how_a_build_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr(locate, "BUILD", tmp_path)
    assert "not known" in version.built()
    (tmp_path / "built.txt").write_text(BUILT)
    assert version.built() == (
        "built from /home/you/a=b, caffe for GPUs of compute capability 80 90 with NCCL, "
        "BLAS Open, OpenMP on, Release"
    )
    template = (ROOT / "cmake/built.txt.in").read_text()
    assert re.findall(r"^(\w+)=@", template, re.MULTILINE) == re.findall(
        r"^(\w+)=", BUILT, re.MULTILINE
    )


# ---- Options: each rule once


@pytest.fixture
def parser():
    def check(arguments):
        return "these do not go together" if arguments.lr == 2 else None

    parser = options.Parser("acu some", "What it does.", check=check)
    parser.add_argument("--count", type=options.integer(1, 9), default=5, help="how many")
    parser.add_argument("--lr", type=options.positive, help="a rate")
    parser.add_argument("--scale", type=options.fraction, help="a fraction")
    parser.add_argument("--json", type=options.result, help="a file")
    options.output(parser, "another", required=False)
    options.seed(parser, "a seed")
    options.gpus(parser, "devices")
    return parser


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--count 1.5", "--count 1.5 is not an integer"),
        ("--count 10", "--count 10 is out of range: give one from 1 to 9"),
        ("--lr 0", "--lr 0 is out of range: give a number above 0"),
        ("--lr nan", "--lr nan is out of range"),
        ("--lr inf", "--lr inf is out of range"),
        ("--lr fast", "--lr fast is not a number"),
        ("--lr 2", "these do not go together"),
        ("--scale 1.5", "--scale 1.5 is out of range: give a number above 0, 1 at most"),
        ("--seed -1", "--seed -1 is out of range: give one from 0 to 4294967295"),
        ("--gpu one", "--gpu one is not a list of device numbers such as 0 or 0,1,2,3"),
        ("--gpu 1,2,1", "--gpu 1,2,1 names a GPU twice: name each once"),
        ("--json x --output ./x", "--json and --output both name x: name each once"),
        ("--json= ", "a path is missing"),
        ("elsewhere", "unrecognized arguments: elsewhere"),
    ],
)
def test_bad_values_are_one_line(parser, arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        parser.parse_args(arguments.split())
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert re.fullmatch(r"error: .* \(see acu some --help\)\n", said.err) and message in said.err


def test_good_values_are_taken(parser, tmp_path):
    found = parser.parse_args("--count 9 --lr 1e-3 --scale 1 --gpu 0,1".split())
    assert (found.count, found.lr, found.scale, found.gpu) == (9, 1e-3, 1.0, [0, 1])
    parser.parse_args("--json /dev/null --output /dev/null".split())
    assert "how many (default: 5)" in parser.format_help()
    assert "(default: None)" not in parser.format_help()


@pytest.mark.parametrize(
    "option, bad",
    [("--gpu", "x"), ("--data", ""), ("--output", ""), ("--seed", "-1"), ("--jobs", "0")],
)
def test_an_option_means_the_same_everywhere(option, bad, capsys):
    said = set()
    for name in cli.SUBCOMMANDS:
        parser = cli.parser(name)
        if any(option in action.option_strings for action in parser._actions):
            with pytest.raises(SystemExit):
                parser.parse_args([option, bad])
            said.add(capsys.readouterr().err.replace(f"acu {name}", ""))
    assert len(said) == 1, said


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "python/active_convolution/cli").glob("*.py")),
    ids=lambda path: path.stem,
)
def test_what_is_asked_of_the_package_is_there(path):
    """Modules are imported where a sub-command runs: only its callers would notice a missing
    name."""
    tree, modules = ast.parse(path.read_text()), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            module = importlib.import_module(
                f"{'.' * node.level}{node.module or ''}", "active_convolution.cli"
            )
            for alias in node.names:
                try:
                    modules[alias.name] = importlib.import_module(f"{module.__name__}.{alias.name}")
                except ModuleNotFoundError:
                    assert hasattr(module, alias.name), f"{module.__name__}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in modules:
                assert hasattr(modules[node.value.id], node.attr), f"{node.value.id}.{node.attr}"
