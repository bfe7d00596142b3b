# A worker. At the repository's root: docker build -f docker/worker.Dockerfile -t research-swarm-worker .
# For a machine without a GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu (torch without CUDA).
# The worker starts sandboxes with bubblewrap, which needs user namespaces: run the container with
# --security-opt seccomp=unconfined --security-opt systempaths=unconfined, and for a GPU with --gpus.
# hadolint accepts this file; no engine has built it yet.
ARG PYTHON=python:3.13.9-slim-trixie

FROM ${PYTHON} AS build
ARG TORCH_INDEX=https://pypi.org/simple
WORKDIR /source
COPY . .
# Without constraints.txt: that file pins a torch without CUDA.
RUN python -m venv --without-pip /opt/swarm \
    && pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && pip --python /opt/swarm/bin/python install --no-cache-dir --index-url "$TORCH_INDEX" "torch>=2.11" \
    && pip --python /opt/swarm/bin/python install --no-cache-dir "$(echo /wheels/*.whl)[worker]"

FROM ${PYTHON}
# gcc and libc's headers, because torch compiles kernels while it trains. The base pins the distribution's release, whose
# mirrors keep only the newest of each package.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap gcc git libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 swarm && useradd --uid 10001 --gid 10001 --home-dir /data swarm \
    && mkdir /data && chown 10001:10001 /data
COPY --from=build /opt/swarm /opt/swarm
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
ENV PATH=/opt/swarm/bin:$PATH PYTHONDONTWRITEBYTECODE=1 HOME=/data SWARM_DATA_DIR=/data
HEALTHCHECK --interval=60s --timeout=20s --start-period=300s CMD ["swarm-worker", "status"]
ENTRYPOINT ["swarm-worker", "--plain"]
CMD ["--gpu", "all"]
