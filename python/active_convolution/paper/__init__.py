"""The paper's experiments: what each of its tables and figures needs, trained, and what came out
beside the paper's."""
