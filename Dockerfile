# The node, in an image of its own. Builds with BuildKit and with the classic builder.
#
#   docker build -t sockhop .
#   docker run --rm -p 127.0.0.1:8080:8080 sockhop
#
# The arguments PROFILE_… trade the speed of the binary for that of the build, for tests. NODE is
# `sockhop`, or one of crates/sockhop-node/examples: a node with other handlers than the chat's.

# ---- manifests: what decides the dependencies, and empty sources ---------------------------

FROM rust:1.95-slim-trixie AS manifests
WORKDIR /src
COPY . .
# Cargo wants every target to have a file. An emptied one keeps this stage's result the same until
# a manifest or the list of targets changes, and with it the compiled dependencies of the next.
RUN echo 'fn main() {}' > /tmp/main.rs \
    && find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -name '*.rs' -delete \
    && find . -name '*.rs' ! -path '*/src/lib.rs' ! -path '*/src/main.rs' ! -path '*/src/bin/*' \
        ! -regex '.*/\(benches\|examples\|tests\)/[^/]*' ! -name build.rs -delete \
    && find . -name '*.rs' ! -path '*/src/lib.rs' -exec cp /tmp/main.rs {} \; \
    && find . -path '*/src/lib.rs' -exec truncate -s 0 {} + \
    && find . -type d -empty -delete

# ---- build ---------------------------------------------------------------------------------

FROM rust:1.95-slim-trixie AS build
ARG PROFILE_LTO=fat
ARG PROFILE_UNITS=1
ARG PROFILE_OPT=3
ENV CARGO_PROFILE_RELEASE_LTO=$PROFILE_LTO \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=$PROFILE_UNITS \
    CARGO_PROFILE_RELEASE_OPT_LEVEL=$PROFILE_OPT \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo
WORKDIR /src
COPY --from=manifests /src ./
RUN cargo build --release --locked -p sockhop-node --bins
COPY . .
ARG NODE=sockhop
# Cargo compares times, and those of the checkout may be older than those of the empty sources.
RUN find crates -name '*.rs' -exec touch {} + \
    && if [ "$NODE" = sockhop ]; then set -- --bins; else set -- --example "$NODE"; fi \
    && cargo build --release --locked -p sockhop-node "$@" \
    && cd target/release && { [ "$NODE" = sockhop ] || cp "examples/$NODE" sockhop; }

# ---- the image -----------------------------------------------------------------------------

FROM debian:trixie-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/sockhop /usr/local/bin/sockhop
COPY deploy/healthcheck.sh /usr/local/bin/healthcheck
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
ENV SOCKHOP__SERVER__LISTEN=0.0.0.0:8080 \
    SOCKHOP__CONTROL__LISTEN=0.0.0.0:9000 \
    SOCKHOP__LOG__FORMAT=json
EXPOSE 8080 9000
STOPSIGNAL SIGTERM
# Alive, not ready: a node that lost Redis still serves its clients and must not be replaced.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["healthcheck", "/healthz"]
ENTRYPOINT ["sockhop"]
