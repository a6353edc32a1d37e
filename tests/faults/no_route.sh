#!/usr/bin/env bash
# In a network namespace without a route: a command that trains, a notebook and a report; with "study" all of
# `make study PROFILE=toy` instead, and some tests; with "everything" what `make study` and `make test` run when they
# are installed. As root, or wherever a user may make a network namespace. From the repository's root, whose code it
# runs; exit code 124 where it did not end in fifteen minutes, the study in thirty, everything in three hours.
#   tests/faults/no_route.sh PYTHON OUTPUTS [study | everything]
set -euo pipefail
python=$1 outputs=$2 what=${3:-part}
export KDNB_OUTPUTS=$outputs
export PYTHONPATH=$PWD
unset KDNB_HUB HF_HUB_OFFLINE
namespace=-n
unshare -n true 2>/dev/null || namespace=-rn
longest=900
if [ "$what" = study ]; then longest=1800; fi
if [ "$what" = everything ]; then longest=10800; fi
exec timeout --kill-after=10 "$longest" unshare "$namespace" bash -euo pipefail -c '
python=$1 what=$2
ip link set lo up 2>/dev/null || "$python" - <<"UP"
import fcntl, socket, struct
with socket.socket() as one:  # SIOCSIFFLAGS, IFF_UP | IFF_RUNNING
    fcntl.ioctl(one, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
UP
"$python" - <<"CHECK"
import socket
try:
    socket.create_connection(("192.0.2.1", 80), timeout=2)
except OSError as error:
    print("no route: checked,", error)
else:
    raise SystemExit("there is a route")
CHECK
kdnb() { "$python" -c "from kdnb.cli.main import main; main()" "$@"; }
if [ "$what" = study ]; then
  kdnb study --profile toy
  "$python" -m pytest -q -p no:cacheprovider tests/data/test_splits.py tests/cli/test_main.py tests/report/test_own.py
elif [ "$what" = everything ]; then
  kdnb study
  "$python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder
else
  kdnb compare rt --profile toy --seeds 0 --arms erm_small,ls_small
  kdnb run 10_entropy_of_targets
  kdnb report --profile toy
  kdnb doctor
fi
' bash "$python" "$what"
