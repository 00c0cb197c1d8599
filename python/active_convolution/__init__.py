"""Data, models, training and learned positions for the ActiveConvolution layer of Caffe.

The layer itself (Jeon and Kim, "Active Convolution: Learning the Shape of Convolution for Image Classification",
CVPR 2017) is C++ and lives in the Caffe fork that ``scripts/build.sh`` makes; this package is what stands around it.

From the ground up, each importing from those before it alone (``tests/test_imports.py`` sees to that): ``errors``,
``files``, ``columns``, ``command`` and ``geometry``; ``pycaffe``, all that touches Caffe; ``plotting``; ``positions``,
which are what it draws; ``check`` (the layer against the paper's equations), ``data`` and ``networks``; ``training``;
``evaluation`` and ``conversion``; ``paper`` (its tables and figures) and ``report`` (a page about runs); ``cli``, which
alone parses command lines.
"""

__version__ = "0.1.0"
