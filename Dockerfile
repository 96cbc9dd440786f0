# One image for every part: api, worker, migrate, sandbox, or all at once by `up`.
FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /opt/asana-exports
ENV PATH=/opt/asana-exports/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN pip install --require-hashes -r requirements/runtime.txt
# The tools that build stay in this stage.
RUN python -m venv tools \
 && tools/bin/pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY migrations migrations
COPY client client
RUN tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels . ./client \
 && pip install --no-deps wheels/*.whl
# What is in it, for scanners: CycloneDX, as the environment really is.
RUN tools/bin/cyclonedx-py environment /opt/asana-exports --of JSON -o /opt/asana-exports/sbom.cdx.json

FROM python:3.13-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="asana-exports" \
      org.opencontainers.image.description="A queue, a worker and an archive in front of Asana's export endpoints" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# As the first process it hands signals on and buries what is left of others.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin exports \
 && install --directory --owner exports --mode 0750 /data
COPY --from=build /opt/asana-exports /opt/asana-exports
ENV PATH=/opt/asana-exports/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ASANA_EXPORTS_DATA_DIR=/data \
    SQLITE_TMPDIR=/data \
    ASANA_EXPORTS_HOST=0.0.0.0 \
    ASANA_EXPORTS_PORT=8080 \
    ASANA_EXPORTS_LOG_FORMAT=json
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
# Of the API; a worker has no port, and ends by itself where it cannot go on.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["tini", "--", "asana-exports"]
CMD ["api"]
