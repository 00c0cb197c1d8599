"""The process that trains: started by ``trainer.train``, on a run folder that is ready."""
import signal

from .guard import end_with_parent, log_to

end_with_parent()
signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from Ctrl-C until the Trainer handles it

import argparse  # noqa: E402

from .. import command  # noqa: E402
from .run_folder import RunFolder  # noqa: E402
from .trainer import Trainer  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--gpu", type=int)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    run = RunFolder(arguments.run)
    log_to(run.log)
    return Trainer(run, arguments.gpu).train(arguments.resume)


command.run(main)
