.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PEERS := fastapi litserve mosec triton
# Not compiled: of what TensorFlow installs most is never imported, and what is gets compiled then, once for all processes.
unexport PYTHONDONTWRITEBYTECODE
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# Of the service's tests; CI runs them beside all others.
SERVICE_WORKERS ?= auto
# One thread of OpenMP: those of scikit-learn spin while they wait for each other, ten times what they compute.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
LOCK := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make lock"
COMPILE := $(LOCK) pyproject.toml

##@ Set-up

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One environment; each group's stamp says that its lock is installed. The groups agree on versions
# (make lock compiles them under one constraint), so a later group only adds to an earlier one.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.%: requirements/%.txt requirements/build.txt pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) --require-hashes -r requirements/build.txt
	$(PIP_INSTALL) --require-hashes -r requirements/$*.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: lock
lock: ## Compile the hash-pinned requirements anew (needs uv)
	echo 'setuptools>=77' | uv pip compile --quiet --generate-hashes --no-emit-index-url --custom-compile-command "make lock" - -o requirements/build.txt
	$(COMPILE) --extra train --extra test --extra load --extra bench -o requirements/test.txt
	$(COMPILE) -c requirements/test.txt -o requirements/serve.txt
	$(COMPILE) -c requirements/test.txt --extra s3 --extra tracing -o requirements/container.txt
	$(COMPILE) -c requirements/test.txt --extra train --extra s3 -o requirements/train.txt
	$(COMPILE) -c requirements/test.txt --extra load -o requirements/load.txt
	$(COMPILE) -c requirements/test.txt --extra bench -o requirements/bench.txt
	$(COMPILE) -c requirements/test.txt --extra gpu --extra s3 --extra tracing --no-emit-package onnxruntime -o requirements/gpu.txt
	echo 'mkdocs-material>=9.6' | $(LOCK) -c requirements/test.txt - -o requirements/docs.txt
	echo cyclonedx-bom | $(LOCK) -c requirements/test.txt - -o requirements/image.txt
	for name in $(PEERS) perf-analyzer; do $(LOCK) requirements/peers/$$name.in -o requirements/peers/$$name.txt || exit; done

##@ Serve and test

.PHONY: serve
serve: $(VENV)/.serve ## Serve the shipped models at http://127.0.0.1:3000 (ARGS="--workers 2 --port 8000")
	$(BIN)/keras-serving serve $(ARGS)

.PHONY: check
check: $(VENV)/.test ## Formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: test
test: check $(if $(ARGS),,test-service) test-rest ## Formatting, lint, types and tests (everything but the slow checks below)

# Coverage makes whatever runs TensorFlow take half as long again: here it is only of what faces the network.
.PHONY: test-service
test-service: $(VENV)/.test
	$(PYTEST) --numprocesses=$(SERVICE_WORKERS) tests/service --cov=service --cov-report=term:skip-covered --cov-fail-under=93

.PHONY: test-rest
test-rest: $(VENV)/.test
	$(PYTEST) --durations=25 $(or $(ARGS),--ignore=tests/service)

.PHONY: coverage
coverage: $(VENV)/.test ## All tests with the coverage of every line and branch
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-fail-under=95 $(ARGS)

.PHONY: audit
audit: $(VENV)/.test ## Known vulnerabilities of the locked packages, where a database of them can be asked
	$(BIN)/python -m deploy.audit $(ARGS)

.PHONY: format
format: $(VENV)/.test ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

##@ Documents

.venv-docs/.docs: requirements/docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r $<
	@touch $@

.PHONY: docs
docs: .venv-docs/.docs ## Build the documents' site, strictly; open site/index.html
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

.PHONY: reference
reference: $(VENV)/.test ## Write docs/reference/ anew from the code
	$(BIN)/python -m docs.generate

.PHONY: test-docs
test-docs: $(VENV)/.test ## Run every command of the README, the tutorial and the guides, those that train too (5 minutes; DATA_DIR)
	$(BIN)/python -m pytest tests/docs -m '' $(ARGS)

##@ Train

.PHONY: install-train
install-train: $(VENV)/.train ## Install what training needs (TensorFlow and the like)

.PHONY: train-all
train-all: $(VENV)/.train ## Train the four shipped models anew into models/pretrained (about 45 minutes on two cores)
	for name in dnn cnn regressor lstm; do $(BIN)/keras-serving train $$name --output models/pretrained/$$name || exit; done

.PHONY: textbook
textbook: $(VENV)/.train ## Run the comparisons of docs/textbook.md anew (about 10 minutes on two cores)
	$(BIN)/python -m training.textbook $(ARGS)

##@ Slower checks

.PHONY: loadtest
loadtest: $(VENV)/.test ## Locust against a server that it starts (ARGS="--shape overload"); reports/loadtest.html and *.csv
	$(BIN)/python -m loadtests $(ARGS)

.PHONY: test-load
test-load: $(VENV)/.test ## Every shape of the load test and the search for the capacity, for real (5 minutes)
	$(BIN)/python -m pytest -m slow tests/loadtests $(ARGS)

.PHONY: capacity
capacity: $(VENV)/.test ## The highest rate within a model's objective, with a plot (ARGS="--model cnn --p99-ms 10"); reports/capacity.*
	$(BIN)/python -m loadtests.capacity $(ARGS)

.PHONY: scaling
scaling: $(VENV)/.test ## docs/scaling.md anew: costs, capacities and a simulation checked against them (5 minutes, idle machine)
	$(BIN)/python -m benchmarks.scaling $(ARGS)

.PHONY: drift
drift: $(VENV)/.test ## The figures and the picture of docs/drift.md anew (2 minutes; DATA_DIR and Debian's dataset-fashion-mnist)
	$(BIN)/python -m tests.drift $(ARGS)

.PHONY: test-redeploy
test-redeploy: $(VENV)/.test ## Retrain and redeploy under load, 200 switches and what goes wrong (about 8 minutes; DATA_DIR)
	$(BIN)/python -m tests.redeploy $(ARGS)

.PHONY: test-fleet
test-fleet: $(VENV)/.test ## A fleet on a store in S3 that is cut off, hangs and comes back, the slow tests too (2 minutes)
	$(BIN)/python -m pytest -m "slow or not slow" tests/models/test_remote*.py tests/service/test_follower.py tests/e2e/test_fleet.py $(ARGS)

.PHONY: test-reliability
test-reliability: $(VENV)/.test ## Every promise of docs/reliability.md against a real server, with figures (SOAK_MINUTES=30)
	$(BIN)/python -m tests.reliability $(ARGS)

.PHONY: bench
bench: $(VENV)/.test ## Speed beside a stock BentoML service, in one run; report in reports/bench.md
	$(BIN)/python -m benchmarks.bench $(ARGS)

# Each peer in an environment of its own: their requirements differ.
.venv-peers/.%: requirements/peers/%.txt
	$(PYTHON) -m venv .venv-peers/$*
	.venv-peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: bench-peers
bench-peers: $(VENV)/.test $(PEERS:%=.venv-peers/.%) ## Speed beside seven other ways to serve (50 minutes; ARGS=--quick 6); report in reports/performance.md
	$(BIN)/python -m benchmarks.peers $(ARGS)

.PHONY: perf-analyzer
perf-analyzer: $(VENV)/.test .venv-peers/.perf-analyzer ## Triton's Perf Analyzer over HTTP and gRPC (needs Debian's libb64-0d)
	$(BIN)/python -m benchmarks.perf_analyzer $(ARGS)

.PHONY: bench-gpu
bench-gpu: ## The CUDA provider beside the CPU; report in reports/gpu.md; exit status 2 without an NVIDIA GPU
	@test -e /dev/nvidiactl || { echo "bench-gpu: no NVIDIA GPU here (no /dev/nvidiactl): nothing is measured"; exit 2; }
	$(MAKE) VENV=.venv-gpu .venv-gpu/.gpu
	.venv-gpu/bin/python -m benchmarks.gpu $(ARGS)

.PHONY: package-test
package-test: ## pip install into an empty environment, and bentoml build: both serve and answer
	PYTHON=$(PYTHON) deploy/package_test.sh

# For a GPU the base has CUDA 13 and cuDNN 9, which onnxruntime-gpu of requirements/gpu.txt is made for.
TARGET ?= cpu
CUDA_BASE ?= docker.io/nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04
IMAGE := keras-serving$(patsubst -cpu,,-$(TARGET)):$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

.PHONY: image
image: ## Build the container image with docker (TARGET=cpu|gpu|train)
	docker build --build-arg TARGET=$(TARGET) $(if $(filter gpu,$(TARGET)),--build-arg BASE=$(CUDA_BASE)) \
	  --build-arg REVISION=$$(git rev-parse HEAD) --tag $(IMAGE) .

.PHONY: image-test
image-test: ## Build the images for CPU and training and run them for real (needs root, buildah, debootstrap)
	deploy/image_test.sh
