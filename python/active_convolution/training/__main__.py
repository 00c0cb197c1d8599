"""The process that trains: started by ``trainer.train``, on a run folder that is ready."""
from .guard import end_with_parent, log_to, stop_at_once

end_with_parent()
stop_at_once()  # until the Trainer handles them; before the slow imports

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
