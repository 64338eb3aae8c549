# `make demo` shows it at work, `make test` proves it; both set up first what they need.

PYTHON ?= python3
UV_VERSION := 0.13.9
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
BENCH := $(VENV)/bench
PEERS := tests/bench/requirements-peers

.SILENT:
.PHONY: help setup python demo test storm replay-storm bench check format lock clean

help:
	echo 'make setup    .venv from the lock file, and a RabbitMQ server'
	echo 'make demo     the worker against a stand-in for DCS: 200 requests and what became of them'
	echo 'make test     every test (make test ARGS="-k words" for some)'
	echo 'make storm    workers and broker killed at random under load (make storm ARGS="--seed 7")'
	echo 'make replay-storm   parked replay killed twenty times in the middle of 500 requests'
	echo 'make bench    what a request costs, beside other libraries (make bench ARGS=--quick: in four minutes)'
	echo 'make check    format, lint, types, lock files'
	echo 'make format   mend format and what lint can mend'
	echo 'make lock     renew the lock files (needs the network)'
	echo 'make clean    take away .venv and what tools left'

setup: python
	test -n "$$WORKER_AMQP_URL" || scripts/servers.sh broker

python: $(INSTALLED)

$(INSTALLED): pyproject.toml requirements-dev.lock scripts/python.sh
	PYTHON="$(PYTHON)" scripts/python.sh $(VENV)
	touch $@

demo: setup
	$(VENV)/bin/dcs-worker demo $(ARGS)

test: python
	scripts/servers.sh rabbitmq-server redis-server
	$(RUN) -m pytest $(ARGS)

storm: python
	scripts/servers.sh rabbitmq-server
	$(RUN) -m tests.live.storm $(ARGS)

replay-storm: python
	scripts/servers.sh rabbitmq-server
	$(RUN) -m tests.live.replay_storm $(ARGS)

bench: python $(BENCH)/.installed
	PATH="$$PATH:/usr/sbin" scripts/servers.sh rabbitmq-server redis-server nginx
	$(RUN) -m tests.bench $(ARGS)

$(BENCH)/.installed: $(PEERS).txt | $(INSTALLED)
	echo "Installing the locked packages of the peers into $(BENCH)"
	rm -rf $(BENCH)
	$(RUN) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip -qq --disable-pip-version-check --no-input install --require-hashes --no-deps \
		--requirement $<
	touch $@

check: python
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy schemas worker tests
	$(RUN) -m pytest --quiet tests/unit/test_lock.py

format: python
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

COMPILE = $(VENV)/tools/bin/uv pip compile --universal --generate-hashes --no-emit-index-url \
	--no-annotate --no-header --quiet $(ARGS)
PROJECT := pyproject.toml --extra tracing

lock:
	test -x $(VENV)/tools/bin/uv || "$(PYTHON)" -m venv $(VENV)/tools
	$(VENV)/tools/bin/python -m pip install -qq uv==$(UV_VERSION)
	$(COMPILE) $(PROJECT) -o requirements.lock
	$(COMPILE) $(PROJECT) --group dev -o requirements-dev.lock
	$(COMPILE) $(PEERS).in --python-version 3.11 -o $(PEERS).txt

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
