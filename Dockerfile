# The worker, small and without root. `docker build -t tidegate .`
FROM rust:1-slim-trixie AS build
WORKDIR /build
# A build of another profile (`--build-arg PROFILE=dev`) is quicker to make and slower to run.
ARG PROFILE=release
COPY . .
RUN cargo build --locked --bin tidegate --profile "$PROFILE" \
    && mv target/*/tidegate /usr/local/bin/tidegate

FROM debian:trixie-slim
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
