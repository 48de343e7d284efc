.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
COMPILE := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make lock" pyproject.toml

##@ Set-up

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One environment; each group's stamp says that its lock is installed. The groups agree on versions
# (make lock compiles them under one constraint), so a later group only adds to an earlier one.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

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
	$(COMPILE) -c requirements/test.txt --extra train -o requirements/train.txt
	$(COMPILE) -c requirements/test.txt --extra load -o requirements/load.txt
	$(COMPILE) -c requirements/test.txt --extra bench -o requirements/bench.txt
	$(COMPILE) -c requirements/test.txt --extra gpu --no-emit-package onnxruntime -o requirements/gpu.txt
