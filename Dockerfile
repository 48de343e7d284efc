# The service with the shipped models. TARGET says for what:
#
#   cpu     serves on a CPU, without TensorFlow: every shipped bundle has an ONNX graph
#   gpu     the same with onnxruntime for NVIDIA GPUs; BASE then has to be an image with CUDA 13 and cuDNN 9
#   train   with TensorFlow: retraining as a job, and models that have no ONNX graph
#
#   docker build -t keras-serving .
#   docker run --rm -p 3000:3000 -p 3001:3001 keras-serving
#
# Runs with a read-only root file system, given a tmpfs at /tmp and a volume at /var/lib/keras-serving.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG TARGET=cpu
# For networks with a package index or a certificate of their own; they stay in this stage.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_CERT
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
# An image with CUDA has no Python. Its distribution keeps one version of a package, so that none can be pinned.
# hadolint ignore=DL3008
RUN command -v python3 >/dev/null \
 || { apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*; }
WORKDIR /src
COPY requirements/build.txt requirements/image.txt requirements/container.txt requirements/gpu.txt requirements/train.txt requirements/
# The environment that is shipped has neither pip nor setuptools: the one beside it installs into it.
RUN case "$TARGET" in cpu) lock=container;; gpu|train) lock=$TARGET;; *) echo "TARGET is '$TARGET', not cpu, gpu or train"; exit 1;; esac \
 && python3 -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes -r requirements/build.txt \
 && python3 -m venv --without-pip /opt/keras-serving \
 && /opt/build/bin/pip --python /opt/keras-serving install --require-hashes --only-binary :all: \
      -r "requirements/$lock.txt"
COPY pyproject.toml README.md LICENSE ./
COPY keras_serving keras_serving
COPY models models
COPY service service
COPY training training
COPY deploy/slim.sh deploy/slim.sh
# The list of what is inside is made before anything is removed, by a program that stays in this stage.
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/build/bin/pip --python /opt/keras-serving install --no-deps --no-index /dist/*.whl \
 && python3 -m venv /opt/sbom \
 && /opt/sbom/bin/pip install --require-hashes --only-binary :all: -r requirements/image.txt \
 && /opt/sbom/bin/cyclonedx-py environment --output-reproducible --output-format JSON \
      --output-file /opt/keras-serving/sbom.cdx.json /opt/keras-serving/bin/python3 \
 && sh deploy/slim.sh /opt/keras-serving/lib/python3.*/site-packages \
 && mkdir /home-of-the-service

FROM ${BASE}
ARG BASE
ARG TARGET=cpu
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="keras-serving" \
      org.opencontainers.image.description="Serves Keras models over HTTP and gRPC (${TARGET})" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
# hadolint ignore=DL3008
RUN command -v python3 >/dev/null \
 || { apt-get update && apt-get install --yes --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*; }
ENV PATH=/opt/keras-serving/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/keras-serving \
    SERVING_HOME=/var/lib/keras-serving \
    SERVING_LOG_FORMAT=json
COPY --from=build /opt/keras-serving /opt/keras-serving
# A new named volume takes over this folder's owner.
COPY --from=build --chown=10001:10001 /home-of-the-service /var/lib/keras-serving
VOLUME /var/lib/keras-serving
WORKDIR /var/lib/keras-serving
# Numeric, so that Kubernetes can tell that it is not root.
USER 10001:10001
EXPOSE 3000 3001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python3", "-ISc", "import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', 3000, timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["keras-serving", "serve", "--host", "0.0.0.0"]
