#!/usr/bin/env bash
# speed.sh WORK: ends with an error where the wheel in WORK/tree needs more than 1.03 times as long for the forward and backward
# pass of a network of the paper's as the ordinary build. The shortest of many passes of each, in turns.
set -euo pipefail
work=$1
cat > "$work/speed.py" <<'PYTHON'
import sys, time, caffe
net = caffe.Net("models/cifar10/plain/acu/deploy.prototxt", caffe.TEST)
net.blobs["data"].reshape(16, 3, 32, 32)
net.reshape()
times = []
for _ in range(15):
    start = time.perf_counter()
    net.forward()
    net.backward()
    times.append(time.perf_counter() - start)
print(min(times))
PYTHON
pass() { GLOG_minloglevel=2 PYTHONPATH=$1 OMP_WAIT_POLICY=passive /usr/bin/python3 "$work/speed.py"; }
mkdir -p "$work/installed"
/usr/bin/python3 -m zipfile -e dist/*.whl "$work/installed"
for _ in 1 2 3 4 5; do echo "$(pass "$work/installed") $(pass build/fork/python)"; done |
  awk '!wheel || $1 < wheel { wheel = $1 } !ours || $2 < ours { ours = $2 }
       END { printf "forward and backward, 16 images: %.1f ms, ordinary build %.1f ms: %.3f times\n", 1e3 * wheel, 1e3 * ours, wheel / ours
             exit wheel / ours > 1.03 }'
