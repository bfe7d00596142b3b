# The coordinator. Build at the repository's root: docker build -f docker/coordinator.Dockerfile -t research-swarm-coordinator .
# This file has not been built or run yet.
FROM python:3.12-slim

# pg_dump and pg_restore, for `swarm-coordinator backup` on PostgreSQL; they must be as new as the server.
RUN apt-get update && apt-get install --yes --no-install-recommends postgresql-client && rm -rf /var/lib/apt/lists/*

COPY . /source
RUN pip install --no-cache-dir --constraint /source/constraints.txt "/source[coordinator]" && rm -rf /source

RUN useradd --create-home swarm && mkdir /data && chown swarm /data
USER swarm
WORKDIR /data
VOLUME /data
ENV SWARM_HOST=0.0.0.0 SWARM_PORT=8000 SWARM_DATABASE_URL=sqlite:////data/coordinator.db
EXPOSE 8000
ENTRYPOINT ["swarm-coordinator"]
CMD ["serve"]
