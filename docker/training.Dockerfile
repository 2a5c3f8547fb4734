# syntax=docker/dockerfile:1
# Data and training: egowm-convert, egowm-train, egowm-evaluate and the rest. No ROS. From the repository's root:
#
#   docker build -f docker/training.Dockerfile -t egowm/training .
#   docker run --gpus all --shm-size=2g -v "$PWD/data:/data" egowm/training egowm-train /opt/egowm/training/configs/base_3dof.yaml
#
# CUDA's libraries come with torch; the driver comes from the host. TORCH_INDEX=https://download.pytorch.org/whl/cpu
# makes an image without them. For a fixed base give its digest: --build-arg BASE=python@sha256:...
ARG BASE=python:3.11-slim-bookworm

# hadolint ignore=DL3006
FROM ${BASE} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu130
ENV VIRTUAL_ENV=/opt/venv
COPY docker/training.txt /tmp/training.txt
RUN python3 -m venv "$VIRTUAL_ENV" \
    && "$VIRTUAL_ENV/bin/pip" install --no-cache-dir --index-url "$TORCH_INDEX" --no-deps \
        "$(grep '^torch==' /tmp/training.txt)" \
    && "$VIRTUAL_ENV/bin/pip" install --no-cache-dir --requirement /tmp/training.txt
WORKDIR /opt/egowm
COPY LICENSE README.md pyproject.toml ./
COPY egowm_core egowm_core
COPY training training
COPY ros_ws ros_ws
RUN "$VIRTUAL_ENV/bin/pip" install --no-cache-dir --no-deps .

# hadolint ignore=DL3006
FROM ${BASE} AS training
LABEL org.opencontainers.image.title="egowm training" org.opencontainers.image.licenses="Apache-2.0"
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libegl1 libgl1 libgl1-mesa-dri libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/venv /opt/venv
COPY training/configs /opt/egowm/training/configs
RUN useradd --create-home --uid 10001 --shell /usr/sbin/nologin egowm
USER 10001
WORKDIR /data
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    MUJOCO_GL=egl \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics
CMD ["egowm-train", "--help"]
# A command that ends by itself: its exit status is all there is to know.
HEALTHCHECK NONE
