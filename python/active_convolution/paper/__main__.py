"""The process that trains one run of a table: started by ``runs.train_all`` with trainer.train's arguments as JSON."""

from ..caffe.process import end_with_parent, stop_at_once

end_with_parent()
stop_at_once()  # until the training handles them; before the slow imports

import json  # noqa: E402
import sys  # noqa: E402

from .. import command  # noqa: E402
from ..training.trainer import train  # noqa: E402

command.run(lambda: train(**json.loads(sys.argv[1])))
