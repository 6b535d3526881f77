# syntax=docker/dockerfile:1
# The simulated Jaco2 that `docker compose --profile demo up` lets the daemon drive: the daemon's image, and beside it the
# lab, its simulator and OpenGL without a screen or a GPU. Nothing to deploy.
ARG STILLFRAME=stillframe

FROM scratch AS wheels

FROM ${STILLFRAME}
ARG PIP_NO_INDEX=""
USER 0:0
# Which versions, the image's Debian says.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY server server
COPY client client
COPY lab lab
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    PIP_CONSTRAINT=/src/constraints.txt PIP_BUILD_CONSTRAINT=/src/constraints.txt \
    PIP_NO_INDEX=${PIP_NO_INDEX} PIP_FIND_LINKS=/wheels PIP_DISABLE_PIP_VERSION_CHECK=1 \
    /opt/stillframe/bin/pip install ".[sim,charts]" ./lab
USER 10001:10001
WORKDIR /srv/stillframe
# Where OpenGL keeps compiled shaders, but for this in a home folder, which is read-only.
ENV XDG_CACHE_HOME=/tmp
HEALTHCHECK NONE
ENTRYPOINT ["stillframe", "demo", "--watch"]
CMD []
