# The worker's image: docker build --tag dcs-migration-worker .
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# Tools and the worker's environment are apart: the latter is what ships, and gets no pip.
COPY requirements-build.lock requirements.lock ./
RUN python -m venv /opt/tools \
    && python -m venv --without-pip /opt/worker \
    && /opt/tools/bin/python -m pip install --require-hashes --no-deps --only-binary :all: \
        --requirement requirements-build.lock \
    && /opt/tools/bin/python -m pip --python /opt/worker/bin/python install --require-hashes --no-deps \
        --only-binary :all: --requirement requirements.lock

# From here on nothing is fetched. The wheel depends on its content alone, as that of `make wheel` does.
COPY pyproject.toml README.md ./
COPY schemas schemas
COPY worker worker
RUN SOURCE_DATE_EPOCH=1580601600 /opt/tools/bin/python -m pip wheel --no-index --no-deps --no-build-isolation \
        --wheel-dir /dist . \
    && /opt/tools/bin/python -m pip --python /opt/worker/bin/python install --no-index --no-deps /dist/*.whl \
    && /opt/tools/bin/python -m pip --python /opt/worker/bin/python check \
    && /opt/tools/bin/cyclonedx-py environment --validate --gather-license-texts --output-reproducible \
        --pyproject pyproject.toml --output-file /opt/worker/sbom.cdx.json /opt/worker/bin/python

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dcs-migration-worker" \
    org.opencontainers.image.description="Creates Huawei Cloud DCS online migration tasks from requests on RabbitMQ" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.base.name="${PYTHON_IMAGE}"

# The base image's own pip goes too: nothing here installs anything any more.
RUN python -c 'import ensurepip, pip, shutil; [shutil.rmtree(it.__path__[0]) for it in (ensurepip, pip)]' \
    && rm -f "$(command -v pip)" "$(command -v pip3)"
COPY --from=build /opt/worker /opt/worker
ENV PATH=/opt/worker/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-m", "worker.tools.healthcheck"]

# The worker is the first process and drains on SIGTERM; give it WORKER_DRAIN and ten seconds more to end.
ENTRYPOINT ["dcs-worker"]
CMD ["run"]
