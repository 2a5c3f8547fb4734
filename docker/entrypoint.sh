#!/usr/bin/env bash
# Runs a command in the suite's ROS environment; `health` asks the nodes named in EGOWM_HEALTH for their state.
set -eo pipefail
prefix=${EGOWM:-/opt/egowm}
# shellcheck disable=SC1090,SC1091 # made by ROS and colcon; they read unset variables
source "/opt/ros/${ROS_DISTRO:-jazzy}/setup.bash"
# shellcheck disable=SC1091
source "$prefix/install/setup.bash"
if [ "${1:-}" = health ]; then
  shift
  if [ -z "${EGOWM_HEALTH:-}" ]; then
    exit 0 # nothing here has a lifecycle: that the container runs is all there is to know
  fi
  read -ra nodes <<<"$EGOWM_HEALTH"
  exec "$prefix/install/lib/egowm_nodes/health" --timeout 5 "${nodes[@]}" "$@"
fi
exec "$@"
