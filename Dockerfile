# The worker, small and without root. `docker build -t tidegate .`
FROM rust:1-slim-trixie AS build
WORKDIR /build
# A build of another profile (`--build-arg PROFILE=dev`) is quicker to make and slower to run.
ARG PROFILE=release
COPY . .
RUN cargo build --locked --bin tidegate --profile "$PROFILE" \
    && mv target/*/tidegate /usr/local/bin/tidegate

FROM debian:trixie-slim AS worker
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin tidegate
COPY --from=build /usr/local/bin/tidegate /usr/local/bin/tidegate
USER 10001
EXPOSE 8079
# The worker drains on SIGTERM; as process 1, in exec form, it gets the signal itself.
STOPSIGNAL SIGTERM
ENTRYPOINT ["tidegate"]
CMD ["worker", "-c", "/etc/tidegate/worker.toml"]

# OpenCTI's worker: `docker build --target opencti --build-arg PYCTI=7.261026.0 -t tidegate-opencti:7.261026.0 .`
# Its pycti must have the platform's version.
FROM debian:trixie-slim AS pycti
ARG PYCTI=7.261026.0
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && python3 -m venv /opt/pycti \
    && /opt/pycti/bin/pip install --no-cache-dir "pycti==$PYCTI" \
    && /opt/pycti/bin/python3 -m compileall -q /opt/pycti/lib \
    && rm -rf /opt/pycti/lib/python3*/site-packages/pip*

FROM debian:trixie-slim AS opencti
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 libmagic1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && useradd --system --uid 1000 --no-create-home --shell /usr/sbin/nologin tidegate
COPY --from=pycti /opt/pycti /opt/pycti
COPY --from=build /usr/local/bin/tidegate /usr/local/bin/tidegate
ENV TIDEGATE__OPENCTI__PYTHON=/opt/pycti/bin/python3 \
    TIDEGATE__WORKER__HTTP=0.0.0.0:8079
USER 1000
EXPOSE 8079
STOPSIGNAL SIGTERM
ENTRYPOINT ["tidegate"]
CMD ["worker"]

# Without a target the image is the worker.
FROM worker
