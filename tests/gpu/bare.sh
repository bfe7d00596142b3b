#!/bin/sh
# The ladder on a machine that has torch and nothing else of ours, and no network. From the repository's root:
#   sh tests/gpu/bare.sh [ladder|noise|full] [--device cpu]
# Put beside it first: wheels of the worker's packages but torch (`pip download`) into .whl/, and bubblewrap's and
# libcap2's packages (`apt-get download`) into .deb/.
set -eu
for deb in .deb/*.deb; do [ -e "$deb" ] && dpkg --extract "$deb" /; done
[ -d .whl ] && python3 -m pip install --quiet --no-index --no-deps --no-compile --break-system-packages .whl/*.whl
PYTHONUNBUFFERED=1 PYTHONPATH=. exec python3 -m tests.gpu.ladder "$@"
