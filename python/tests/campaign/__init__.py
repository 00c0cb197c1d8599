"""A fault campaign: damaged files and killed programs, at random from a seed. scripts/campaign.sh runs it, and
docs/reliability.md says what must hold.

corpus.py makes whole files, mutations.py damages them as their formats are built, surroundings.py puts what is no file in
their place, and programs where it is hard to work; trials.py says what is tried on which, judge.py judges it and kills,
readers.py is the process in which readers are tried alone, killer.c kills a process at its n-th write.
"""
