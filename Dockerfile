# windlass's image: one static program, no shell, no library, not root. `k8s/image` makes the same
# without a builder.
FROM node:22-bookworm AS page
WORKDIR /web
COPY board/web .
RUN npm ci --ignore-scripts --no-audit --no-fund && npm run --silent build

FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
COPY --from=page /web/dist board/web/dist
ENV RUSTFLAGS="-C target-feature=+crt-static"
# The target is named so that build scripts and macros are not linked statically as well.
RUN cargo build --release --locked --bin windlass --target x86_64-unknown-linux-gnu \
    && cp target/x86_64-unknown-linux-gnu/release/windlass /windlass \
    && strip --strip-debug /windlass

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /windlass /windlass
USER 65532:65532
ENTRYPOINT ["/windlass"]
