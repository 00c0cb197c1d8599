"""What a data set was made with."""
import platform

import google.protobuf
import lmdb
import numpy
import sklearn

from ..cv import cv2


def versions():
    """Of Python and of the libraries on which a data set's content depends: {name: version}."""
    modules = {"numpy": numpy, "scikit-learn": sklearn, "opencv": cv2, "lmdb": lmdb, "protobuf": google.protobuf}
    return {"python": platform.python_version(), **{name: module.__version__ for name, module in modules.items()}}
