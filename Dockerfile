# syntax=docker/dockerfile:1
# The daemon, without weights: mount them at /srv/stillframe/checkpoints. docs/containers.md says how.
#
# BASE needs Python 3.11 or newer, as `python`, and nothing of CUDA: torch's wheel carries its CUDA libraries, and the host's
# driver comes in with the NVIDIA container toolkit (docker run --gpus all). An image of NVIDIA's that has Python will do too.
ARG BASE=python:3.11-slim

# A folder of wheels may stand in for the package index: --build-context wheels=FOLDER --build-arg PIP_NO_INDEX=1
FROM scratch AS wheels

FROM ${BASE} AS build
# For a CPU alone point TORCH_INDEX at PyTorch's CPU index (named on pytorch.org, "Get started"): gigabytes less; its wheels
# outrank the plain ones at the same version.
ARG TORCH_INDEX=""
ARG PIP_NO_INDEX=""
ENV PIP_EXTRA_INDEX_URL=${TORCH_INDEX} \
    PIP_NO_INDEX=${PIP_NO_INDEX} \
    PIP_FIND_LINKS=/wheels \
    PIP_CONSTRAINT=/src/constraints.txt \
    PIP_BUILD_CONSTRAINT=/src/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/stillframe
WORKDIR /src
# Dependencies first: this layer stays cached until a version changes. Of the source, the build needs to see these two, and
# a README, which is edited more often than that: an empty one will do.
COPY pyproject.toml constraints.txt LICENSE ./
COPY server/stillframe/__init__.py server/stillframe/__init__.py
COPY client/stillframe_client/__init__.py client/stillframe_client/__init__.py
RUN touch README.md
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    /opt/stillframe/bin/pip install .
# The torch that the image has to have: cpu, cuda, or any, which is what pip found.
ARG ACCELERATOR=any
COPY docker/check_torch.py docker/check_torch.py
RUN /opt/stillframe/bin/python docker/check_torch.py "${ACCELERATOR}"
COPY README.md ./
COPY server server
COPY client client
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    /opt/stillframe/bin/pip install --no-deps --force-reinstall .

FROM ${BASE}
# The daemon writes only to /tmp and logs unbuffered. It downloads nothing, unless its checkpoint is an id of the hub: then
# set HF_HOME to a volume.
ENV PATH=/opt/stillframe/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
COPY --from=build /opt/stillframe /opt/stillframe
WORKDIR /srv/stillframe
COPY configs configs
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# Healthy means ready: loaded, warm and not stopping. Works for any configuration, port and TLS of the daemon.
# It starts a Python, which takes seconds on a machine that is busy.
HEALTHCHECK --interval=15s --timeout=10s --start-period=120s --retries=3 CMD ["stillframe", "healthcheck"]
ENTRYPOINT ["stillframe"]
# A container's loopback cannot be reached from outside, so the daemon listens on all addresses; the published port decides
# who can reach it. Beyond this machine configure tokens (`stillframe token NAME`), and leave the flag away.
CMD ["serve", "configs/jaco-tiny.yaml", "--host", "0.0.0.0", "--allow-anonymous"]
