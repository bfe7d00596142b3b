# A worker. Build at the repository's root: docker build -f docker/worker.Dockerfile -t research-swarm-worker .
# This file has not been built or run yet.
# The worker starts sandboxes with bubblewrap, which needs user namespaces: run the container with
# --security-opt seccomp=unconfined --security-opt systempaths=unconfined, and for a GPU with --gpus.
FROM python:3.12-slim

# gcc, because torch compiles kernels.
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap gcc libc6-dev git \
    && rm -rf /var/lib/apt/lists/*

# Without constraints.txt: that file pins a torch without CUDA.
COPY . /source
RUN pip install --no-cache-dir "/source[worker]" && rm -rf /source

RUN useradd --create-home swarm && mkdir /data && chown swarm /data
USER swarm
VOLUME /data
ENV SWARM_DATA_DIR=/data
ENTRYPOINT ["swarm-worker"]
CMD ["--gpu", "all"]
