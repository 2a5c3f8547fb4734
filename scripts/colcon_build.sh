#!/usr/bin/env bash
# Builds the ROS packages with colcon into build/ and install/: on a ROS 2 installation with it, else against the wheels.
# scripts/colcon_build.sh [COLCON_BUILD_OPTION...]
set -euo pipefail
cd "$(dirname "$0")/.."

options=(--base-paths ros_ws/src --build-base build --install-base install)
if [ -n "${ROS_DISTRO:-}" ] && [ -d "/opt/ros/$ROS_DISTRO" ]; then
  exec python3 -m colcon build "${options[@]}" "$@"
fi

# Without a ROS installation the generators come as wheels: what egowm_msgs names as its build requirements.
python=.venv/bin/python
[ -x "$python" ] || { echo "no $python: run \`make venv\` first" >&2; exit 2; }
stamp=.venv/.colcon
requirements=$("$python" -c '
import sys
try:
    import tomllib
except ModuleNotFoundError:
    import pip._vendor.tomli as tomllib
with open("ros_ws/src/egowm_msgs/pyproject.toml", "rb") as file:
    print("\n".join(tomllib.load(file)["build-system"]["requires"]))
')
if [ "$(cat "$stamp" 2>/dev/null)" != "$requirements" ]; then
  echo "$requirements" | "$python" -m pip --disable-pip-version-check --quiet install -r /dev/stdin
  echo "$requirements" >"$stamp"
fi
exec "$python" -m colcon build "${options[@]}" --cmake-args -DBUILD_TESTING=OFF \
  "-DCMAKE_PROJECT_INCLUDE=$PWD/ros_ws/src/egowm_msgs/wheels.cmake" "$@"
