"""Data, models, training and learned positions for the ActiveConvolution layer of Caffe.

The layer itself (Jeon and Kim, "Active Convolution: Learning the Shape of Convolution for Image Classification",
CVPR 2017) is C++ and lives in the Caffe fork that ``scripts/build.sh`` makes; this package is what stands around it.
Only ``cli`` parses command lines.
"""
__version__ = "0.1.0"
