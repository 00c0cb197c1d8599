"""All that touches Caffe: where the fork's pycaffe is, its files as messages, its nets, its
processes."""
