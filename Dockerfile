# The service as an image: Python, the locked requirements, the code; no compiler, no pip, no root.
# Build from the root of the repository:
#   docker build --build-arg REVISION="$(git rev-parse HEAD)" --tag globeco/globeco-portfolio-service:2.0.0 .

ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /opt/portfolio
# For gunicorn_h1c, Gunicorn's parser in C, which has no wheel for Linux. Versions are Debian's: what
# it compiles is pinned, and the compiler does not reach the final stage.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY deploy/build-requirements.lock deploy/requirements.lock ./
# Everything by its hash, so that nothing can differ from what was tested.
RUN python -m venv build && \
    build/bin/pip install --require-hashes --requirement build-requirements.lock && \
    build/bin/pip wheel --require-hashes --requirement requirements.lock --no-deps \
        --only-binary :all: --no-binary gunicorn-h1c --no-build-isolation --wheel-dir wheels && \
    python -m venv --without-pip venv && \
    build/bin/pip --python venv/bin/python install --no-index --no-deps --no-compile wheels/*.whl
COPY gunicorn.conf.py patches.py wsgi.py ./
COPY portfolio portfolio
# Compiled here, because the service runs on a read-only file system and starts at 0.2 CPU; by hash,
# because a copied file's time may change.
RUN python -m compileall -q --invalidation-mode unchecked-hash venv portfolio patches.py wsgi.py

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
# Without a name in /etc/passwd: a number is all that Kubernetes compares.
RUN install -d -o 10001 -g 10001 -m 0700 /run/portfolio
WORKDIR /opt/portfolio
COPY --from=build /opt/portfolio/venv venv
COPY --from=build /opt/portfolio/portfolio portfolio
COPY --from=build /opt/portfolio/gunicorn.conf.py /opt/portfolio/patches.py /opt/portfolio/wsgi.py ./
USER 10001:10001
EXPOSE 8000
# For engines without probes of their own; Kubernetes does not look at it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT', '8000')}/health/live\", timeout=2)"]
CMD ["gunicorn"]
