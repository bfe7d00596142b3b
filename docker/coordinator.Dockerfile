# The coordinator. At the repository's root: docker build -f docker/coordinator.Dockerfile -t research-swarm-coordinator .
# hadolint accepts this file; no engine has built it yet.
ARG PYTHON=python:3.13.9-slim-trixie

FROM ${PYTHON} AS build
WORKDIR /source
COPY . .
# Installed from the wheel, as everywhere else, into an environment without pip.
RUN python -m venv --without-pip /opt/swarm \
    && pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && pip --python /opt/swarm/bin/python install --no-cache-dir --constraint constraints.txt \
        "$(echo /wheels/*.whl)[coordinator]"

FROM ${PYTHON}
# pg_dump and pg_restore, for `swarm-coordinator backup` on PostgreSQL; they must be as new as the server. The base pins the
# distribution's release, whose mirrors keep only the newest of each package.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends postgresql-client && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 swarm && useradd --uid 10001 --gid 10001 --home-dir /data swarm \
    && mkdir /data /backups && chown 10001:10001 /data /backups
COPY --from=build /opt/swarm /opt/swarm
# The root file system may be read-only: the program writes below /data, backups below /backups, and what it forgets to /tmp.
USER 10001:10001
WORKDIR /data
VOLUME ["/data", "/backups"]
ENV PATH=/opt/swarm/bin:$PATH PYTHONDONTWRITEBYTECODE=1 \
    SWARM_HOST=0.0.0.0 SWARM_PORT=8000 SWARM_LOG_FORMAT=json SWARM_DATABASE_URL=sqlite:////data/coordinator.db
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"SWARM_PORT\"]}/healthz', timeout=8)"]
ENTRYPOINT ["swarm-coordinator"]
CMD ["serve"]
