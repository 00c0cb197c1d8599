"""From the images people have to the LMDBs that Caffe trains on.

``create`` makes a whole data set folder out of the other modules:

- ``sources``: what every reader returns, the digits, and the files of a folder or a tar archive;
- ``cifar``: CIFAR-10 and CIFAR-100, whatever they are in;
- ``preprocess``: contrast normalisation, whitening and padding (section 3.1 of the paper);
- ``database``: arrays to an LMDB of Caffe's Datum, and back;
- ``folder``: what a folder holds, and whether it is whole.

``places`` makes that of Places365, which is too large for one sitting and for memory:

- ``listed_images``: the data set's lists of images and labels, and the files to an LMDB by several processes, over
  several runs, each as ``datum`` makes it.
"""
