# The service as an image: Python, the locked requirements, the code; no compiler, no pip, no root.
# Build from the root of the repository:
#   docker build --build-arg REVISION="$(git rev-parse HEAD)" --tag globeco/globeco-portfolio-service:2.0.0 .
# OTLP goes over HTTP; --build-arg LOCK=requirements-grpc.lock adds gRPC, which is 19 MB.

# The newest Python that plain `tox` tests.
ARG PYTHON_IMAGE=python:3.14.10-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ARG LOCK=requirements.lock
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /opt/portfolio
# For gunicorn_h1c, Gunicorn's parser in C, which has no wheel for Linux. Versions are Debian's: what
# it compiles is pinned, and the compiler does not reach the final stage. The headers come with the
# official image's Python, and as a package with Debian's.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY deploy/*.lock ./
# Everything by its hash, so that nothing can differ from what was tested.
RUN python -m venv build && \
    build/bin/pip install --require-hashes --requirement build-requirements.lock && \
    build/bin/pip wheel --require-hashes --requirement "$LOCK" --no-deps \
        --only-binary :all: --no-binary gunicorn-h1c --no-build-isolation --wheel-dir wheels && \
    python -m venv --without-pip venv && \
    build/bin/pip --python venv/bin/python install --no-index --no-deps --no-compile wheels/*.whl && \
    rm -r build wheels ./*.lock
COPY gunicorn.conf.py wsgi.py ./
COPY portfolio portfolio
# Compiled here, because the service runs on a read-only file system and starts at 0.2 CPU; by hash,
# because a copied file's time may change.
RUN python -m compileall -q --invalidation-mode unchecked-hash .

FROM ${PYTHON_IMAGE}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="globeco-portfolio-service" \
      org.opencontainers.image.description="GlobeCo Portfolio Service: portfolios over HTTP, stored in MongoDB" \
      org.opencontainers.image.version="2.0.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
ENV PATH=/opt/portfolio/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FLASK_APP=wsgi \
    PORTFOLIO_RUNTIME_DIR=/run/portfolio \
    TMPDIR=/run/portfolio
# The base image's pip goes, and what could bring it back: nothing is installed in a container.
# Python's own library comes uncompiled in the official image: to compile it at every start would
# double the time until a pod is ready. Without what a service does not import.
# The user has no name in /etc/passwd: a number is all that Kubernetes compares.
RUN find / -xdev \( -path '*/bin/pip*' -o -path '*-packages/pip' -o -path '*-packages/pip-*' \
        -o -name ensurepip -o -name 'pip-*.whl' \) -prune -exec rm -r {} + && \
    python -m compileall -q --invalidation-mode unchecked-hash \
        -x '/(_pyrepl|idlelib|lib2to3|pydoc_data|site-packages|dist-packages|test|tkinter|turtledemo)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" && \
    install -d -o 10001 -g 10001 -m 0700 /run/portfolio
WORKDIR /opt/portfolio
COPY --from=build /opt/portfolio ./
USER 10001:10001
EXPOSE 8000
# For engines without probes of their own; Kubernetes does not look at it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT', '8000')}/health/live\", timeout=2)"]
CMD ["gunicorn"]
