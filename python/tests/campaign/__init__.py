"""A fault campaign: damaged files and killed programs, at random from a seed. scripts/campaign.sh runs it, and
docs/reliability.md says what must hold.

mutations.py damages files as their formats are built, corpus.py makes whole ones, trials.py says what is tried on which and
judges it, readers.py is the process in which readers are tried alone, killer.c kills a process at its n-th write.
"""
