# The service alone: no trainer, no CUDA. For a GPU: --build-arg TORCH_INDEX= and AFTERFRAME_DEVICE=cuda.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/afterframe
COPY constraints.txt ./
# The same order as in the Makefile: torch first, its index tried once and briefly, else the ordinary one.
RUN torch=$(sed -n 's/^\(torch==.*\)/\1/p' constraints.txt) && pip=/opt/afterframe/bin/pip && \
    { { [ -n "$TORCH_INDEX" ] && $pip install --retries 0 --timeout 8 --index-url "$TORCH_INDEX" -c constraints.txt "$torch"; } \
      || $pip install -c constraints.txt "$torch"; }
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY app app
RUN /opt/afterframe/bin/pip install -c constraints.txt .

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin afterframe
COPY --from=build /opt/afterframe /opt/afterframe
COPY LICENSE NOTICE /srv/
COPY model_store /srv/model_store
# Decoder workers are shut in by it; the base image has it because its apt does.
RUN python -c "import ctypes; ctypes.CDLL('libseccomp.so.2')"
ENV PATH=/opt/afterframe/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    AFTERFRAME_HOST=0.0.0.0 \
    AFTERFRAME_MODEL_STORE=/srv/model_store
WORKDIR /srv
USER afterframe
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import http.client as h, os, sys; e = os.environ.get; c = h.HTTPConnection('127.0.0.1', e('AFTERFRAME_OPERATIONS_PORT') or e('AFTERFRAME_PORT') or 8000, timeout=2); c.request('GET', '/health/ready'); sys.exit(c.getresponse().status != 200)"]
CMD ["python", "-m", "app"]
