"""From the images that people have to the LMDBs that Caffe trains on.

- ``manifest``: what a data set folder says of itself;
- ``datum``, ``database``: an image file as Caffe's Datum; arrays or files to an LMDB;
- ``classes``: which image is of which class, by folders or by a list;
- ``images``: people's own images, by these; Places365 is a preset of it;
- ``small``: CIFAR and the digits; ``preprocess``: section 3.1 of the paper;
- ``adopt``: databases that other tools made.
"""
