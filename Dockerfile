# The worker's image: docker build --tag dcs-migration-worker .
# Both base images have the same Python at the same path; the second one needs no shell.
ARG PYTHON_IMAGE=python:3.13-slim-trixie
ARG RUNTIME_IMAGE=${PYTHON_IMAGE}

FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /src

# Tools and the worker's environment are apart: the latter is what ships, and gets no pip.
COPY requirements-build.lock requirements.lock ./
RUN python -m venv /opt/tools \
    && python -m venv --without-pip /opt/worker \
    && /opt/tools/bin/python -m pip install --no-compile --require-hashes --no-deps --only-binary :all: \
        --requirement requirements-build.lock \
    && /opt/tools/bin/python -m pip --python /opt/worker/bin/python install --no-compile --require-hashes --no-deps \
        --only-binary :all: --report /opt/tools/installed.json --requirement requirements.lock

# An image of Python that has `strip`, such as python:3.13-trixie, needs no package of its distribution.
RUN command -v strip \
    || { apt-get update && apt-get install --yes --no-install-recommends 'binutils=2.*' && rm -rf /var/lib/apt/lists/*; }

# From here on nothing is fetched. The wheel depends on its content alone, as that of `make wheel` does.
COPY pyproject.toml README.md ./
COPY scripts/material_hashes.py scripts/
COPY schemas schemas
COPY worker worker
RUN SOURCE_DATE_EPOCH=1580601600 /opt/tools/bin/python -m pip wheel --no-index --no-deps --no-build-isolation \
        --wheel-dir /dist . \
    && /opt/tools/bin/python -m pip --python /opt/worker/bin/python install --no-compile --no-index --no-deps /dist/*.whl \
    && /opt/tools/bin/python -m pip --python /opt/worker/bin/python check \
    && /opt/tools/bin/cyclonedx-py environment --validate --gather-license-texts --output-reproducible \
        --pyproject pyproject.toml --output-file /opt/worker/sbom.cdx.json /opt/worker/bin/python \
    && /opt/tools/bin/python scripts/material_hashes.py /opt/tools/installed.json /opt/worker/sbom.cdx.json

# Bytecode of everything: the official image has none of its library, and nothing can be written at run time. That
# of the library is checked against its sources when it is read, for RUNTIME_IMAGE may have others.
RUN find /opt/worker -name '*.so' -exec strip --strip-unneeded {} + \
    && export PYTHONPYCACHEPREFIX=/opt/worker/bytecode \
    && python -m compileall -qq --invalidation-mode unchecked-hash /opt/worker/lib \
    && python -m compileall -qq --invalidation-mode checked-hash \
        -x '/(test|idlelib|tkinter|turtledemo|lib2to3|pydoc_data|ensurepip|(site|dist)-packages)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

FROM ${RUNTIME_IMAGE}
ARG RUNTIME_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dcs-migration-worker" \
    org.opencontainers.image.description="Creates Huawei Cloud DCS online migration tasks from requests on RabbitMQ" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.base.name="${RUNTIME_IMAGE}"

COPY --from=build /opt/worker /opt/worker
# The base image's own pip goes too: nothing here installs anything any more.
USER 0:0
RUN ["/opt/worker/bin/python", "-Bc", "import glob, os, shutil, sys; [shutil.rmtree(it) if os.path.isdir(it) else os.remove(it) for at in ('bin/pip*', 'lib/python3*/ensurepip', 'lib/python3*/*-packages/pip', 'lib/python3*/*-packages/pip-*') for it in glob.glob(f'{sys.base_prefix}/{at}')]"]
ENV PATH=/opt/worker/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONPYCACHEPREFIX=/opt/worker/bytecode
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-m", "worker.tools.healthcheck"]

# The worker is the first process and drains on SIGTERM; give it WORKER_DRAIN and ten seconds more to end.
ENTRYPOINT ["dcs-worker"]
CMD ["run"]
