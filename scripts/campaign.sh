#!/usr/bin/env bash
# Damages files of every kind and kills programs, at random from a seed, and judges by what docs/reliability.md promises.
# Prints the trials and failures of each kind, and ends with exit status 1 where one failed; failing inputs stay, each with its
# command, in build/campaign/seed<S>/. Needs the build, and makes it where it is missing.
#
#   ./scripts/campaign.sh [--minutes N] [--trials N] [--first N] [--seed S] [--patience SECONDS] [--corpus DIR]
#
# Default: 60 minutes, seed 0; what takes longer than 60 s hangs.
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
cd "$(dirname "$0")/.."
[ -n "${ACTIVE_CONVOLUTION_BUILD-}" ] || [ -e build/fork/python/caffe/libcaffe.so ] || ./scripts/build.sh
export PYTHONPATH=$PWD/python:$PWD/python/tests${PYTHONPATH:+:$PYTHONPATH} OMP_WAIT_POLICY=passive
exec /usr/bin/python3 -m campaign "$@"
