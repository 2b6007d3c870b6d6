# iotctl in a small image. The binary holds librdkafka; the last stage needs Debian's libc, OpenSSL, libcurl and the public certificate
# authorities.
FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ make pkg-config libssl-dev libcurl4-openssl-dev maven openjdk-17-jdk-headless \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --profile dist --locked --features sql --bin iotctl && cp target/dist/iotctl /iotctl
# The metrics agent of the servers' JVMs, in the version of the pom.
RUN mkdir -p /agent && mvn -q -B -f src/servers/local/poms/jmx-exporter.xml \
        org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory=/agent \
    && mv /agent/jmx_prometheus_javaagent-*.jar /agent/jmx_prometheus_javaagent.jar \
    && cp monitoring/jmx_exporter/*.yml /agent/

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libcurl4 libssl3 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin iotctl
COPY --from=build /iotctl /usr/local/bin/iotctl
COPY --from=build /agent /usr/share/iotctl/agent
USER 10001
EXPOSE 9464 9465
# `ingest` and `monitor` serve their health beside their metrics.
HEALTHCHECK --interval=10s --timeout=5s --retries=6 CMD ["iotctl", "healthcheck", "127.0.0.1:9464"]
ENTRYPOINT ["iotctl"]
CMD ["--help"]
