# make help says what there is. One virtual environment, .venv, holds everything; no ROS installation is needed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo test lint colcon clean

VENV := .venv
STAMP := $(VENV)/.ready
EXTRAS := train,pretrained,sim,ros,demo,dev,onnx,ray
MSGS := ros_ws/src/egowm_msgs

# A CPU build of torch is enough for everything here. Which build this installs is up to pip's index: the one on PyPI
# brings CUDA along on Linux, several gigabytes; PyTorch's own index for CPUs, as pip's extra index, saves them.
# With a GPU, name what fits the driver: make venv TORCH=torch, or TORCH=path/to/wheel.
TORCH ?= torch==2.13.0

# make demo [BAG=recording] [SECONDS=60] [SEED=7] [CHECKPOINT=directory] [OUT=out/demo] [ARGS='any other option']
BAG ?=
SEED ?=
CHECKPOINT ?=
OUT ?= out/demo
ARGS ?=
# bash and zsh export a counter of the same name: only what the command line says counts
ifneq ($(origin SECONDS),command line)
override SECONDS :=
endif

help:
	@echo "make demo     simulated robot, world model and drift monitor, live; the results are in $(OUT)"
	@echo "              BAG=path plays a recording instead; SECONDS= SEED= CHECKPOINT= OUT= ARGS="
	@echo "make test     every check that a change must pass: ruff, mypy, import-linter, pytest"
	@echo "make lint     the same without pytest"
	@echo "make venv     the environment alone; TORCH= chooses another torch"
	@echo "make colcon   the ROS packages as on a robot, into build/ and install/"
	@echo "make clean    what was built and run; keeps $(VENV)"

venv: $(STAMP)

$(STAMP): pyproject.toml $(MSGS)/pyproject.toml $(wildcard $(MSGS)/msg/* $(MSGS)/action/*) scripts/make_venv.sh
	scripts/make_venv.sh "$(VENV)" "$(TORCH)" "$(EXTRAS)"
	touch $@

demo: $(STAMP)
	$(VENV)/bin/egowm-demo --out "$(OUT)" $(if $(BAG),--bag "$(BAG)") $(if $(SECONDS),--seconds $(SECONDS)) \
	  $(if $(SEED),--seed $(SEED)) $(if $(CHECKPOINT),--checkpoint "$(CHECKPOINT)") $(ARGS)

test: $(STAMP)
	scripts/check.sh

lint: $(STAMP)
	scripts/check.sh --no-tests

colcon: $(STAMP)
	scripts/colcon_build.sh

clean:
	rm -rf build install log out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find egowm_core training ros_ws tests launch -name __pycache__ -prune -exec rm -rf {} +
