"""Training one network: the run's folder, its schedule, its snapshots, and the loop around Caffe's
solver."""
