# Needs Python 3.11 or later and make. Everything goes into .venv; nothing else of the machine is changed.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
DEV := $(VENV)/.dev-installed
SERVER := $(VENV)/.server-installed

.PHONY: demo test lint proto sync-client coverage compiled clean help

help:
	@echo "make demo    bring up a cloud, use it, break it, end it"
	@echo "make test    all tests"
	@echo "make lint    ruff, mypy"
	@echo "make proto   protos/ -> minicloud/wire/"
	@echo "make compiled  optional: queues as machine code, by a C compiler"

demo: $(SERVER)
	$(BIN)/minicloud demo

# Two files at a time: tests with real clouds mostly wait, and each worker has clouds of its own. WORKERS=0: one.
WORKERS ?= 2
test: $(DEV)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

proto: $(DEV)
	$(BIN)/python hatch_build.py

# The sync SDK from the async one.
sync-client: $(DEV)
	$(BIN)/python minicloud/client/generate.py

# Optional: what SQS requests go through as machine code. Needs a C compiler; a minute.
compiled: $(DEV)
	$(BIN)/python compiled_build.py

# What the AWS face serves, from its doors.
coverage: $(DEV)
	$(BIN)/python -m minicloud.aws.coverage > docs/aws-coverage.md

clean:
	rm -rf $(VENV) build dist *.egg-info minicloud/_compiled

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "minicloud needs Python 3.11 or later on the PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip

$(SERVER): $(BIN)/python pyproject.toml $(wildcard protos/minicloud/wire/*.proto)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[server]'
	@touch $@

$(DEV): $(BIN)/python pyproject.toml $(wildcard protos/minicloud/wire/*.proto)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(SERVER)
