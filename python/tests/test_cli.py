"""The command ``acu``: what it lists, what each sub-command's parser takes and refuses, and how fast it is there."""

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
DOORS = {
    "create_lmdb": "data",
    "train": "train",
    "evaluate": "evaluate",
    "convert": "convert",
    "export": "export",
    "plot_positions": "plot",
    "report": "report",
    "reproduce": "reproduce",
    "check_layer": "check",
    "generate_models": "generate",
}

# A command line that each parser takes.
GOOD = {
    "data": "digits --output out",
    "models": "new mine --like cifar10/plain",
    "train": "models/digits/plain --variant acu --data data --output run",
    "evaluate": "--model a.prototxt --weights a.caffemodel --data data",
    "convert": "--model a.prototxt --output out",
    "export": "--model a.prototxt --weights a.caffemodel --output out",
    "plot": "run --output a.png",
    "report": "run --output a.html",
    "reproduce": "--table 2 --data data --output runs",
    "check": "",
    "generate": "",
}


def acu(*arguments, program=(ACU,), **options):
    return subprocess.run(
        [*program, *map(str, arguments)], capture_output=True, text=True, **options
    )


def refused(subcommand, arguments, capsys):
    """What a sub-command's parser says of a command line that it refuses, in its one line."""
    with pytest.raises(SystemExit) as end:
        cli.parser(subcommand).parse_args(arguments)
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert re.fullmatch(rf"error: .* \(see acu {subcommand}( \w+)? --help\)\n", said.err)
    return said.err


# ---- acu itself


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",), ("help",)])
def test_help_lists_the_sub_commands_in_the_order_of_use(arguments, tmp_path):
    done = acu(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^  (\w+)", done.stdout, re.MULTILINE) == list(cli.SUBCOMMANDS) == list(GOOD)


@pytest.mark.parametrize("name", ["foo\nbar", "foo\u2028bar"])
def test_no_line_break_of_a_sub_command_breaks_the_line(name):
    assert acu(name).stderr == "error: there is no sub-command foo bar: acu --help lists them\n"


def test_an_unknown_sub_command_is_one_line():
    done = acu("dance", "--help")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no sub-command dance: acu --help lists them\n"


@pytest.mark.parametrize(
    "program", [(sys.executable, "-m", "active_convolution"), (ACU,)], ids=["module", "script"]
)
def test_two_ways_to_call_it(program, tmp_path):
    environment = {"PYTHONPATH": str(ROOT / "python"), "PATH": ""}
    done = acu("plot", "--help", program=program, cwd=tmp_path, env=environment)
    assert done.returncode == 0 and done.stdout.startswith("usage: acu plot ")


def test_it_is_on_the_path_of_a_build(tmp_path):
    from active_convolution.caffe.locate import BUILD

    if not (BUILD / "env.sh").exists():
        pytest.skip("an image of docker/ has no env.sh")
    done = subprocess.run(
        ["bash", "-c", f"unset PYTHONPATH; . '{BUILD}/env.sh' && acu --help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("usage: acu ")


@pytest.mark.parametrize("subcommand", cli.SUBCOMMANDS)
def test_each_sub_command_tells_its_use(subcommand, capsys):
    with pytest.raises(SystemExit) as end:
        cli.parser(subcommand).parse_args(["--help"])
    assert end.value.code == 0 and capsys.readouterr().out.startswith(f"usage: acu {subcommand} ")


def test_the_status_is_the_sub_command_s(tmp_path):
    failed = acu("report", tmp_path / "none", "--output", tmp_path / "a.html")
    assert failed.returncode == 1 and re.fullmatch("error: .* is no run: .*\n", failed.stderr)
    assert acu("report", tmp_path).returncode == 2


@pytest.mark.parametrize("door, subcommand", DOORS.items())
def test_scripts_of_former_versions_are_doors(door, subcommand, tmp_path):
    done = acu("--help", program=(ROOT / f"scripts/{door}.py",), cwd=tmp_path)
    former, now = (
        done.stdout.partition("\n\n")[2],
        cli.parser(subcommand).format_help().partition("\n\n")[2],
    )
    assert done.returncode == 0 and former == now
    assert acu("--nonsense", program=(ROOT / f"scripts/{door}.py",)).returncode == 2


def test_every_script_of_python_is_a_door_or_a_program():
    assert {
        path.stem for path in (ROOT / "scripts").glob("*.py") if "cli.script(" in path.read_text()
    } == set(DOORS)


# ---- The version


def test_version_of_this_build():
    from active_convolution.caffe import locate

    done = acu("--version")
    assert (done.returncode, done.stderr) == (0, "")
    ours, caffe, built = done.stdout.splitlines()
    assert ours == f"acu {__version__} (active-convolution)"
    assert re.fullmatch(
        rf"Caffe \d\S* with ActiveConvolution, {(locate.BUILD / 'fork').resolve()}/python/caffe",
        caffe,
    )
    assert re.fullmatch(
        r"built from .+ for (the CPU|GPUs of .+), BLAS \w+, OpenMP (on|off), \w+", built
    )


def test_version_without_a_build(tmp_path):
    done = acu("--version", env={"ACTIVE_CONVOLUTION_BUILD": str(tmp_path), "PATH": ""})
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"acu {__version__} .*\nno Caffe: cannot import caffe .*\n", done.stdout)


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
    path = tmp_path / "built.txt"
    assert "not known" in version.built()
    for line in BUILT.splitlines()[:-1]:
        path.write_text(BUILT.replace(f"{line}\n", ""))
        assert "not known" in version.built(), "without one of its lines"
    path.write_text(BUILT)
    assert version.built() == (
        "built from /home/you/a=b, caffe for GPUs of compute capability 80 90 with NCCL, BLAS Open, "
        "OpenMP on, Release"
    )
    path.write_text(
        BUILT.replace("/home/you/a=b, caffe", "").replace("CPU_ONLY=OFF", "CPU_ONLY=TRUE")
    )
    assert (
        version.built()
        == "built from BVLC's Caffe 99bd997 for the CPU, BLAS Open, OpenMP on, Release"
    )


def test_cmake_writes_what_is_read():
    template = (ROOT / "cmake/built.txt.in").read_text()
    assert re.findall(r"^(\w+)=@\1@$", template, re.MULTILINE) == re.findall(
        r"^(\w+)=", BUILT, re.MULTILINE
    )


# ---- Options


@pytest.mark.parametrize("subcommand", cli.SUBCOMMANDS)
def test_good_ones_are_taken(subcommand):
    cli.parser(subcommand).parse_args(GOOD[subcommand].split())


@pytest.mark.parametrize(
    "subcommand, arguments, message",
    [
        ("data", "mnist --output out", "argument KIND: invalid choice: 'mnist'"),
        (
            "data",
            "digits --output out --seed -1",
            "--seed -1 is out of range: give one from 0 to 4294967295",
        ),
        ("data", "digits --output out --source x", "unrecognized arguments: --source x"),
        ("data", "cifar10 --output out", "one of the arguments --source --download is required"),
        ("data", "images --output out", "the following arguments are required: --source"),
        ("data", "images --source x --output out --size 8", "--size 8 is no size: give width"),
        ("data", "images --source x --output out --columns a", "--columns a is no two columns"),
        ("data", "images --source x --output out --test-fraction 1", "give one from 0 to 1"),
        (
            "train",
            GOOD["train"] + " --max-iter 0",
            "--max-iter 0 is out of range: give one from 1 to 2147483647",
        ),
        (
            "train",
            GOOD["train"] + " --gpu one",
            "--gpu one is no list of device numbers such as 0 or 0,1,2,3",
        ),
        ("train", GOOD["train"] + " --gpu 1,2,1", "--gpu 1,2,1 names a GPU twice: name each once"),
        ("train", GOOD["train"] + " --variant both", "argument --variant: invalid choice: 'both'"),
        (
            "evaluate",
            GOOD["evaluate"] + " --batch 0",
            "--batch 0 is out of range: give one from 1 to 2147483647",
        ),
        (
            "evaluate",
            GOOD["evaluate"] + " --batch 2147483648",
            "--batch 2147483648 is out of range: give one from 1 to 2147483647",
        ),
        (
            "evaluate",
            GOOD["evaluate"] + " --json x --predictions ./x",
            "--json and --predictions both name x: name each once",
        ),
        (
            "reproduce",
            GOOD["reproduce"] + " --json runs/../runs",
            "--output and --json both name runs/../runs: name each once",
        ),
        (
            "export",
            GOOD["export"] + " --report out",
            "--output and --report both name out: name each once",
        ),
        (
            "convert",
            GOOD["convert"] + " --report out",
            "--output and --report both name out: name each once",
        ),
        (
            "reproduce",
            GOOD["reproduce"] + " --seeds 50000000",
            "--seeds 50000000 is out of range: give one from 1 to 1024",
        ),
        (
            "check",
            "--cases 99999999999999999999",
            "--cases 99999999999999999999 is out of range: give one from 1 to 4294967296",
        ),
        (
            "evaluate",
            GOOD["evaluate"] + " --gpu 0,1",
            "--gpu 0,1 names several GPUs, and this runs on one",
        ),
        (
            "convert",
            GOOD["convert"] + " --kernel 3x0",
            "--kernel 3x0 is no kernel such as 3 or 3x5",
        ),
        ("convert", "--output out", "the following arguments are required: --model"),
        ("export", GOOD["export"] + " --max-kernel 1.5", "--max-kernel 1.5 is no whole number"),
        ("plot", "run", "nothing to draw: give --output, --animate or both"),
        ("report", "run", "give --output FILE, or --serve"),
        (
            "report",
            "run --output a --serve 80",
            "--output and --serve exclude each other: leave one out",
        ),
        (
            "reproduce",
            GOOD["reproduce"] + " --scale nan",
            "--scale nan is out of range: give a fraction of ",
        ),
        ("reproduce", GOOD["reproduce"] + " --scale all", "--scale all is no number"),
        (
            "reproduce",
            GOOD["reproduce"] + " --jobs 0",
            "--jobs 0 is out of range: give one from 1 to 1024",
        ),
        (
            "reproduce",
            GOOD["reproduce"] + " --datasets cifar10 mnist",
            "table 2 has nothing on mnist: its --datasets are cifar10, cifar100",
        ),
        ("check", "--cases 0", "--cases 0 is out of range: give one from 1 to 4294967296"),
        ("generate", "elsewhere", "unrecognized arguments: elsewhere"),
        (
            "models",
            "new mine --like cifar10/plain --classes 1",
            "--classes 1 is out of range: give one from 2 to ",
        ),
        ("train", "--output run", "there is nothing to train: give MODEL_DIR, or --solver FILE"),
        (
            "train",
            "--solver b --variant acu --output run",
            "--variant is for a MODEL_DIR, not for --solver: leave it out",
        ),
        (
            "train",
            "--resume --max-iter 3 --output run",
            "goes on with what the run was started with: leave --max-iter out",
        ),
        (
            "train",
            "--resume --freeze a --output run",
            "goes on with what the run was started with: leave --freeze out",
        ),
        ("train", "a --lr 0 --output run", "--lr 0 is out of range: give a number above 0"),
        ("train", "a --lr fast --output run", "--lr fast is no number"),
    ],
)
def test_bad_values_are_one_line(subcommand, arguments, message, capsys):
    assert message in refused(subcommand, arguments.split(), capsys)


def test_results_of_other_names_and_devices_are_taken(tmp_path):
    """A link counts as what it leads to."""
    (tmp_path / "link").symlink_to(tmp_path / "a")
    parse = cli.parser("evaluate").parse_args
    for names in (("a", "b"), ("/dev/null", "/dev/null"), ("loop/a", "loop/b")):
        parse([*GOOD["evaluate"].split(), "--json", names[0], "--predictions", names[1]])
    with pytest.raises(SystemExit):
        parse(
            [
                *GOOD["evaluate"].split(),
                "--json",
                str(tmp_path / "link"),
                "--predictions",
                str(tmp_path / "a"),
            ]
        )


def actions(subcommand, option):
    return [action for action in cli.parser(subcommand)._actions if option in action.option_strings]


@pytest.mark.parametrize(
    "option, bad",
    [
        ("--gpu", "x"),
        ("--data", ""),
        ("--output", ""),
        ("--model", ""),
        ("--weights", ""),
        ("--seed", "-1"),
    ],
)
def test_an_option_means_the_same_everywhere(option, bad, capsys):
    having = [name for name in cli.SUBCOMMANDS if actions(name, option)]
    assert len(having) > 1
    said = {
        refused(name, [*GOOD[name].split(), option, bad], capsys).replace(f"acu {name}", "")
        for name in having
    }
    assert len(said) == 1, said


def test_no_line_break_of_a_bad_value_breaks_the_line(capsys):
    refused("check", ["--cases", "a\nb"], capsys)


def test_former_spelling_of_several_gpus():
    parse = cli.parser("reproduce").parse_args
    line = GOOD["reproduce"].split()
    for given, gpus in (("0", [0]), ("0,1", [0, 1]), ("0 1 3", [0, 1, 3])):
        assert parse([*line, "--gpu", *given.split(), "--show"]).gpu == gpus
    assert parse(line).gpu is None and parse([*line, "--seeds", "2", "--jobs", "2"]).jobs == 2


def test_a_convolution_s_kernel():
    parse = cli.parser("convert").parse_args
    assert parse([*GOOD["convert"].split(), "--kernel", "3", "5X3"]).kernels == [(3, 3), (5, 3)]


# ---- What is told without importing what knows it


def test_the_parsers_know_what_the_package_does():
    from active_convolution.cli import export, reproduce
    from active_convolution.export import exporting, forms
    from active_convolution.look import style

    assert reproduce.FORMATS == style.FORMATS
    assert (export.FORMATS, export.FORMS) == (exporting.FORMATS, forms.NAMES)
    assert (export.MAX_KERNEL, export.MAX_MULTIPLY_ADDS, export.MOST_KERNEL) == (
        forms.MAX_KERNEL,
        forms.MAX_MULTIPLY_ADDS,
        forms.MOST_KERNEL,
    )


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "python/active_convolution/cli").glob("*.py")),
    ids=lambda path: path.stem,
)
def test_what_is_asked_of_the_package_is_there(path):
    """The modules are imported where a sub-command runs: a name that is gone would be noticed by whoever calls it."""
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
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in modules
        ):
            assert hasattr(modules[node.value.id], node.attr), (
                f"{node.value.id}.{node.attr}, line {node.lineno}"
            )


@pytest.mark.parametrize("subcommand", cli.SUBCOMMANDS)
def test_help_waits_for_nothing_heavy(subcommand):
    code = (
        "import sys\nfrom active_convolution import cli\n"
        f"cli.parser({subcommand!r}).format_help()\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules} & {'caffe', 'cv2', 'matplotlib', 'numpy', 'scipy'}))"
    )
    done = acu(code, program=(sys.executable, "-c"), env={"PYTHONPATH": str(ROOT / "python")})
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


def test_the_project_s_networks_are_the_default():
    assert cli.parser("generate").parse_args([]).output == ROOT / "models" == options.networks()
