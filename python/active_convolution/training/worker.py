"""What every rank of a training does."""
import signal
import tempfile
from pathlib import Path

from .. import fork, prototxt
from ..data.manifest import check_manifest
from ..errors import UserError
from . import phases, snapshots
from .guard import STOPS


class Worker:
    """One of the ``ranks`` (see ranks.py) at work. Rank 0's is a Trainer, which is told what to train: a SolverParameter
    and a NetParameter; the others hear it from there.

    ``gpus`` are those of this machine, one for each rank on it, or empty for the CPU.
    """

    def __init__(self, ranks, gpus, solver=None, net=None):
        self.ranks = ranks
        self.caffe = fork.caffe()
        self.caffe.init_log(0, True)  # all of Caffe's log, to the file descriptor that is the run's log
        self.stop = False
        for number in STOPS:  # after init_log, which handles SIGTERM in its own way
            signal.signal(number, self._ask_to_stop)
        self._use(gpus)
        self.parameter, self.net = ranks.share((solver, net))
        ranks.prepare(self.caffe)
        self.solver = self._make_solver()

    def _ask_to_stop(self, number, frame):
        self.stop = True

    def _use(self, gpus):
        if not gpus:
            self.caffe.set_mode_cpu()
            return
        if self.ranks.local_rank >= len(gpus):
            raise UserError(f"--gpu names {len(gpus)} of this machine's GPUs, and more ranks than that run on it: "
                            "name one for each")
        self.caffe.set_device(gpus[self.ranks.local_rank])
        self.caffe.set_mode_gpu()

    def _make_solver(self):
        """Caffe's solver, without its tests and snapshots: those are made by the Trainer, where a test's progress shows
        and its result is read, and where metrics and positions are on the disk before the snapshot that they lead to."""
        parameter = type(self.parameter)()
        parameter.CopyFrom(self.parameter)
        for name in ("test_iter", "test_interval", "test_initialization", "test_state", "snapshot"):
            parameter.ClearField(name)
        parameter.layer_wise_reduce = False  # see ranks.Nccl
        with tempfile.TemporaryDirectory() as folder:
            if self.ranks.rank > 0:  # rank 0's folder may be out of reach
                parameter.net = f"{folder}/train_val.prototxt"
                prototxt.write(parameter.net, self.net)
                self._check_data()
            file = Path(folder) / "solver.prototxt"
            prototxt.write(file, parameter)
            return self.caffe.get_solver(str(file))

    def _check_data(self):
        for layer in phases.data_layers(self.parameter, self.net, self.caffe.TRAIN):
            check_manifest(Path(layer.data_param.source).parent)

    def begin(self, snapshot=None):
        """Brings all ranks to one state: rank 0's ``snapshot``, or its fresh weights. Returns whether to stop at once."""
        packed = self.ranks.share(snapshot and self.ranks.size > 1 and snapshots.packed(snapshot))
        if self.ranks.rank == 0 and snapshot:
            snapshots.restore(self.solver, snapshot)
        elif packed:
            with snapshots.unpacked(packed) as copy:
                snapshots.restore(self.solver, copy)
        self.ranks.join(self.solver)
        return self._agree(0)[1]

    def step(self):
        """One iteration. Returns its loss, the mean over the ranks, and whether to stop.

        A signal that comes after this has the next iteration to stop at.
        """
        self.solver.step(1)
        return self._agree(self.loss(self.solver.net))

    def _agree(self, loss):
        loss, self.stop = self.ranks.agree(loss, self.stop)
        return loss, self.stop

    @staticmethod
    def loss(net):
        """The sum of all losses of a pycaffe Net's last forward pass, by their weights."""
        weights = net.blob_loss_weights.items()
        return float(sum(weight * net.blobs[name].data.sum() for name, weight in weights if weight))

    def at_end(self):
        return self.solver.iter == self.parameter.max_iter

    def train(self):
        """Runs the solver to its end or until a rank is told to stop; returns the exit status, the same at all ranks."""
        stop = self.begin()
        while not (stop or self.at_end()):
            _, stop = self.step()
        return self.ranks.share(None)
