"""Data, models, training and learned positions for the ActiveConvolution layer of Caffe.

The layer itself (Jeon and Kim, "Active Convolution: Learning the Shape of Convolution for Image
Classification", CVPR 2017) is C++ and lives in the Caffe fork that ``scripts/build.sh`` makes; this
package is what stands around it.

From the ground up, each importing from those before it alone (``tests/test_imports.py`` sees to
that): ``errors``, ``files`` and ``geometry``; ``caffe``, all that touches pycaffe; then the way
that data takes: ``data`` (images to databases), ``networks``, ``training``, ``look`` (plots,
evaluation, report), ``export``, ``paper`` (its tables and figures); ``check`` (the layer against
the paper's equations); ``cli``, which alone parses command lines.
"""

__version__ = "1.0.0"


def load(run, iteration=None):
    """A trained network, from a run folder of ``acu train``, for images: see look.predict.load.

    Its ``predict(images)`` gives probabilities, its ``classes`` their names.
    """
    from .look import predict

    return predict.load(run, iteration)
