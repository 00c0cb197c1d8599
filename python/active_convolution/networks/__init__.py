"""The paper's networks as Caffe's prototxt (``models``), and how they train on each data set
(``schedules``).

A network is a function ``body(net, data, dataset, variant)``: it adds the layers from the blob
``data`` to the class scores to the NetSpec ``net`` and returns the scores. Only where ``variant``
is "acu" are convolutions active.
"""
