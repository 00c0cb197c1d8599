"""Looking at what was trained: positions, curves, errors, predictions."""
