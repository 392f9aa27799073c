#!/bin/sh
# Usage: install-wheels.sh ARCHITECTURE FOLDER LOCK
#
# Installs the wheels of a lock file, checked by their hashes, for Python 3.13 of a Debian architecture into FOLDER:
# without debug symbols, tests and sources of C and Cython, and with compiled modules.
set -eu
architecture=$1 folder=$2 lock=$3
case $architecture in
  amd64) machine=x86_64 ;;
  arm64) machine=aarch64 ;;
  *) echo "install-wheels.sh: no wheels for the architecture $architecture" >&2; exit 1 ;;
esac
# The wheels that run on the image's glibc or an older one.
minor=$(ldd --version | sed -n '1s/.* 2\.//p')
platforms="--platform manylinux2014_$machine"
while [ "$minor" -ge 17 ]; do
  platforms="$platforms --platform manylinux_2_${minor}_$machine"
  minor=$((minor - 1))
done
# shellcheck disable=SC2086 # several words
python3 -m pip install --quiet --no-cache-dir --no-compile --no-deps --require-hashes --only-binary :all: \
  --implementation cp --python-version 3.13 $platforms --target "$folder" --requirement "$lock"
rm -rf "$folder/bin"
find "$folder" -name '*.so*' -type f -exec strip --strip-unneeded {} +
find "$folder" -type d \( -name tests -o -name test \) -prune -exec rm -r {} +
find "$folder" -type f \( -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' -o -name '*.pyi' \) -delete
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$folder" \
  -p /usr/local/lib/python3.13/dist-packages "$folder"
