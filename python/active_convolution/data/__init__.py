"""From the images people have to the LMDBs that Caffe trains on.

``create`` makes a whole data set folder out of the other modules:

- ``digits``, ``cifar``: read a set into a ``dataset.Dataset``; ``cifar`` draws on ``source`` (a folder or a tar
  archive), ``cifar_batches`` (the python and binary files) and ``image_tree`` (a folder of images per class);
- ``preprocess``: contrast normalisation, whitening and padding (section 3.1 of the paper);
- ``lmdb_writer``: arrays to an LMDB of Caffe's Datum;
- ``manifest``: what a folder holds, and whether it is whole.

``places`` makes that of Places365, which is too large for one sitting and for memory:

- ``image_list``: the data set's lists of images and labels;
- ``image_lmdb``: the files to an LMDB by several processes, over several runs, each as ``datum`` makes it, which
  decodes with ``image_file``;
- ``partial``: the folder in which that happens.
"""
