# Anteroom and nothing else: the program, the three libraries that it is linked with, and the certificates of public
# authorities (for `rediss://`). No shell, no package manager.
#
#   docker build -t anteroom:0.1.0 .
#   docker buildx build --platform linux/amd64,linux/arm64 -t … --push .    (the foreign one emulated, or on its own builder)
#
# Not linked statically with musl, which would need no libraries: it works, but a Check with a pass costs 11 % more CPU
# (`make bench` of both, release builds).
#
# The same sources make the same binary: versions are pinned by Cargo.lock and by the release of Rust, no path and no time
# of the build gets in. For equal images as well: --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-slim-bookworm AS build
ARG TARGETARCH
ARG SOURCE_DATE_EPOCH=0
# For the allocator's own build.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# Tests, documents and configurations change more often than the program: they are not here, and make nothing anew.
COPY Cargo.toml Cargo.lock build.rs ./
COPY fuzz/Cargo.toml fuzz/
COPY loadtest/Cargo.toml loadtest/
COPY proto proto
COPY lua lua
COPY web web
COPY src src
# The workspace wants its other members, of which nothing is built.
RUN mkdir -p loadtest/src && echo 'fn main() {}' >loadtest/src/main.rs
# Kernels of arm64 come with pages of 4 to 64 KiB, and the allocator must know the largest when it is built.
RUN --mount=type=cache,id=cargo-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=anteroom-$TARGETARCH,target=/build/target \
    export SOURCE_DATE_EPOCH CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never \
      RUSTFLAGS="--remap-path-prefix=/build=. --remap-path-prefix=/usr/local/cargo=cargo" \
 && if [ "$TARGETARCH" = arm64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi \
 && cargo build --release --locked --package anteroom --bin anteroom \
 && cp target/release/anteroom /anteroom
# What the image will hold. Names are looked up in /etc/hosts, then in DNS.
RUN mkdir -p /image/etc/ssl/certs \
 && cp --parents --dereference $(ldd /anteroom | grep -o '/[^ ]*') /image/ \
 && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
 && echo 'hosts: files dns' >/image/etc/nsswitch.conf \
 && cp /anteroom /image/anteroom \
 && /image/anteroom --version

FROM scratch
LABEL org.opencontainers.image.title="anteroom" \
      org.opencontainers.image.description="A virtual waiting room for Envoy" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/ /
# A number, as Kubernetes can tell only of a number that it is not root. Nothing is written but to --state-dir.
USER 65532:65532
# Checks, position gRPC, client HTTP, admin. They listen on 127.0.0.1 unless told otherwise.
EXPOSE 50051 50052 8081 9102
# No HEALTHCHECK: there is no shell to run one, and an orchestrator asks /livez and /readyz.
ENTRYPOINT ["/anteroom"]
CMD ["serve"]
