#!/bin/sh
# Usage: install-compiler.sh ARCHITECTURE LOCK
#
# Installs what compiles the data path for a Debian architecture: the compiler of Debian (a cross compiler where the
# architecture is not the builder's), the target's header files of Python, and the tools of the lock file, checked by
# their hashes. The command `target-python` runs the builder's Python with the tools and with the target's
# configuration, from which setuptools takes the compiler, its flags and the names of libraries.
set -eu
architecture=$1 lock=$2
case $architecture in
  amd64) machine=x86_64 ;;
  arm64) machine=aarch64 ;;
  *) echo "install-compiler.sh: no compiler for the architecture $architecture" >&2; exit 1 ;;
esac
dpkg --add-architecture "$architecture"
apt-get update --quiet=2
DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends \
  "gcc-$(echo $machine | tr _ -)-linux-gnu" "libpython3.13-dev:$architecture"
rm -rf /var/lib/apt/lists/*
python3 -m pip install --quiet --no-cache-dir --no-deps --require-hashes --only-binary :all: --target /build-tools \
  --requirement "$lock"
cat > /usr/local/bin/target-python << END
#!/bin/sh
export PYTHONPATH=/build-tools _PYTHON_HOST_PLATFORM=linux-$machine
export _PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata__$machine-linux-gnu
exec python3 "\$@"
END
chmod 755 /usr/local/bin/target-python
