# One image for every role: `docker run bursar server`, `… worker --pool agent=64`, `… migrate`.

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
# Registry and target folder are kept between builds by BuildKit, so the program is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --package bursar --bin bursar \
    && cp target/release/bursar /bursar

FROM debian:bookworm-slim
# The trusted roots for calls to model providers.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --create-home --home-dir /var/lib/bursar bursar
COPY --from=build /bursar /usr/local/bin/bursar
USER bursar
# Where an embedded SQLite file goes when no DATABASE_URL is given.
WORKDIR /var/lib/bursar
ENV PORT=8080
EXPOSE 8080
ENTRYPOINT ["bursar"]
CMD ["server"]
