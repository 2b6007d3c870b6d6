# iotctl in a small image. The binary links librdkafka and OpenSSL into itself, so the last stage needs Debian's libc alone.
FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake perl maven openjdk-17-jdk-headless \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin iotctl && cp target/release/iotctl /iotctl && strip /iotctl
# The metrics agent of the servers' JVMs, in the version of the pom.
RUN mkdir -p /agent && mvn -q -B -f src/local/poms/jmx-exporter.xml \
        org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory=/agent \
    && mv /agent/jmx_prometheus_javaagent-*.jar /agent/jmx_prometheus_javaagent.jar \
    && cp monitoring/jmx_exporter/*.yml /agent/

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin iotctl
COPY --from=build /iotctl /usr/local/bin/iotctl
COPY --from=build /agent /usr/share/iotctl/agent
USER 10001
EXPOSE 9464 9465
# `ingest` and `monitor` serve their health beside their metrics.
HEALTHCHECK --interval=10s --timeout=5s --retries=6 CMD ["iotctl", "healthcheck", "127.0.0.1:9464"]
ENTRYPOINT ["iotctl"]
CMD ["--help"]
