"""Notebooks that are checked in with their outputs: executed from a clean kernel, and marked with the code executed."""
import hashlib
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from . import fork
from .errors import UserError
from .files import whole_file

MARK = "executed_code"      # in the notebook's metadata: the digest of the code that gave its outputs
TIMEOUT = 300               # seconds for one cell


def read(path):
    """The notebook in a file. Raises UserError where it cannot be read or is none."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError, KeyError, nbformat.ValidationError) as error:
        raise UserError(f"{path} is no notebook: name an .ipynb file") from error
    return notebook


def digest(notebook):
    """The SHA-256, in hexadecimal, of a notebook's code cells in order."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(cells).encode()).hexdigest()


def execute(path):
    """The notebook in ``path``, its cells executed in order by a new kernel, in its folder, with this package and the
    fork's pycaffe on the path.

    Raises UserError where a cell fails, ends the kernel (a failed check inside Caffe does) or takes longer than TIMEOUT.
    """
    notebook = read(path)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)    # times
    paths = [fork.ROOT / "python", fork.BUILD.resolve() / "fork" / "python", os.environ.get("PYTHONPATH")]
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")    # or ipykernel's debugger warns, in both processes
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(path) for path in paths if path)}
    client = NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3", record_timing=False,
                            resources={"metadata": {"path": str(Path(path).resolve().parent)}})
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        raise UserError(f"a cell of {path} fails: {error.ename}: {error.evalue}") from error
    except CellTimeoutError as error:
        raise UserError(f"a cell of {path} takes longer than {TIMEOUT} s: let it do less") from error
    except DeadKernelError as error:
        raise UserError(f"a cell of {path} ended its kernel: run the cells' code with python3 to see its last "
                        "words") from error
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
                         "language_info": {"name": "python", "version": sys.version.split()[0]}, MARK: digest(notebook)}
    return notebook


def refresh(path):
    """Executes the notebook in ``path`` and writes it back with its new outputs, whole or not at all."""
    notebook = execute(path)
    with whole_file(path, encoding="utf-8") as file:
        nbformat.write(notebook, file)
