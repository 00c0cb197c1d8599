"""Times the layer beside what else computes convolutions, after comparing it with the oracle."""
