# syntax=docker/dockerfile:1
# The suite on a robot: ROS 2 Jazzy, the nodes, the simulators. From the repository's root:
#
#   docker build -f docker/robot.Dockerfile -t egowm/robot .
#   docker build -f docker/robot.Dockerfile -t egowm/robot:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#
# The same file serves x86_64 and aarch64. CUDA's libraries come with torch; the driver comes from the host. For a fixed
# base give its digest: --build-arg BASE=ros@sha256:... (docs/deploy.md).
ARG BASE=ros:jazzy-ros-base-noble

# ---- what both stages need ------------------------------------------------------------------------------------------
# hadolint ignore=DL3006
FROM ${BASE} AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Ubuntu and ROS keep only the newest version of a package, so a pinned one could not be installed next month.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        libegl1 libgl1 libgl1-mesa-dri libglib2.0-0t64 python3-venv \
        ros-jazzy-diagnostic-msgs ros-jazzy-launch-ros ros-jazzy-ros2launch ros-jazzy-ros2lifecycle \
        ros-jazzy-ros2run ros-jazzy-rmw-fastrtps-cpp ros-jazzy-std-srvs ros-jazzy-tf2-msgs ros-jazzy-tf2-ros-py \
        ros-jazzy-trajectory-msgs ros-jazzy-visualization-msgs \
    && rm -rf /var/lib/apt/lists/*
ENV EGOWM=/opt/egowm VIRTUAL_ENV=/opt/egowm/venv

# ---- build ----------------------------------------------------------------------------------------------------------
FROM base AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential cmake python3-colcon-common-extensions python3-dev \
    && rm -rf /var/lib/apt/lists/*
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# The environment sees ROS's own Python packages, and what is pinned comes before them.
COPY docker/robot.txt /tmp/robot.txt
RUN python3 -m venv --system-site-packages "$VIRTUAL_ENV" \
    && "$VIRTUAL_ENV/bin/pip" install --no-cache-dir --index-url "$TORCH_INDEX" --no-deps "$(grep '^torch==' /tmp/robot.txt)" \
    && "$VIRTUAL_ENV/bin/pip" install --no-cache-dir --requirement /tmp/robot.txt
# launch/ and egowm_core/ are reached from ros_ws/ by links: all three have to be there.
WORKDIR /src
COPY egowm_core egowm_core
COPY launch launch
COPY ros_ws ros_ws
# colcon under the environment's Python, so that the executables run in it.
RUN . /opt/ros/jazzy/setup.bash \
    && "$VIRTUAL_ENV/bin/python" -m colcon build --merge-install --base-paths ros_ws/src --install-base "$EGOWM/install" \
        --cmake-args -DBUILD_TESTING=OFF

# ---- run ------------------------------------------------------------------------------------------------------------
FROM base AS robot
LABEL org.opencontainers.image.title="egowm robot" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/egowm /opt/egowm
COPY --chmod=755 docker/entrypoint.sh /opt/egowm/entrypoint.sh
# A user of its own, who owns nothing but a home for logs. The base image's user 1000 stays as it is.
RUN useradd --create-home --uid 10001 --shell /usr/sbin/nologin egowm
USER 10001
WORKDIR /home/egowm
ENV RMW_IMPLEMENTATION=rmw_fastrtps_cpp \
    ROS_LOG_DIR=/tmp/ros \
    PYTHONDONTWRITEBYTECODE=1 \
    MUJOCO_GL=egl \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics
ENTRYPOINT ["/opt/egowm/entrypoint.sh"]
# On SIGTERM ros2 launch ends at once and leaves its nodes; on SIGINT, with no terminal, it stops them in order.
STOPSIGNAL SIGINT
CMD ["ros2", "launch", "--noninteractive", "egowm_bringup", "base.launch.py"]
# Both lifecycle nodes answer, and are active. A container that runs others says so with --health-cmd or EGOWM_HEALTH.
ENV EGOWM_HEALTH="world_model drift_monitor"
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 \
    CMD ["/opt/egowm/entrypoint.sh", "health"]
