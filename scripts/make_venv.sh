#!/usr/bin/env bash
# Makes or updates the virtual environment: scripts/make_venv.sh VENV TORCH EXTRAS
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 torch=$2 extras=$3
packages=$(cat scripts/apt_packages.txt)

python=""
for candidate in python3.11 python3 python3.12 python3.10 python3.13; do
  if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' 2>/dev/null; then
    python=$candidate
    break
  fi
done

# What is missing is told at once, before minutes of downloads.
missing=()
[ -n "$python" ] || missing+=("Python 3.10 to 3.14")
if [ -n "$python" ]; then
  "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=("venv")
  "$python" -c 'import sys, sysconfig, pathlib; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file())' \
    || missing+=("Python.h")
  for library in libEGL.so.1 libGL.so.1 libgthread-2.0.so.0; do
    "$python" -c "import ctypes; ctypes.CDLL('$library')" 2>/dev/null || missing+=("$library")
  done
fi
for tool in cc c++ cmake; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "missing: ${missing[*]}" >&2
  echo "on Debian or Ubuntu: sudo apt-get install --no-install-recommends $packages" >&2
  exit 1
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
install() {
  echo "-- installing $*"
  "$venv/bin/python" -m pip --disable-pip-version-check --quiet install "$@"
}
# torch first: whichever build that is satisfies the packages that need torch, and pip looks for no other.
install "$torch"
install -e ".[$extras]"
install ./ros_ws/src/egowm_msgs
