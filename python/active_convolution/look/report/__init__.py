"""A page about training runs: one HTML file that needs no network, no server and no other file."""
