"""The layer against the paper's equations: an oracle in NumPy, random cases, and what runs them in
float and double."""
