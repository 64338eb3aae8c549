# `make demo` shows it at work, `make test` proves it; both set up first what they need.

PYTHON ?= python3
UV_VERSION := 0.13.9
ENGINE ?= docker
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
BENCH := $(VENV)/bench
BROKERS := $(VENV)/brokers
SERIES := 3.10 4.0 4.3
PEERS := tools/bench/requirements-peers
BASE := $(VENV)/slim.tar
COMPOSE := $(VENV)/compose
SHIPPED := $(VENV)/shipped

.SILENT:
.PHONY: help setup python demo test test-unit test-brokers test-dashboard test-deploy test-languages test-senders dashboard picture prove storm flow-storm replay-storm \
	bench image wheel sbom rules settings errors check format lock clean

help:
	echo 'make setup    .venv from the lock file, and a RabbitMQ server'
	echo 'make demo     the worker against a fake DCS: 200 requests and what became of them'
	echo 'make test     every test (make test ARGS="-k words" for some; ARGS=path installs only what that path needs)'
	echo 'make test-unit  the tests that need no server, in about 75 seconds on 2 cores'
	echo 'make test-brokers   live tests on RabbitMQ 3.10, 4.0 and 4.3, clusters too (make test-brokers ARGS=4.3)'
	echo 'make test-dashboard  an hour in small under Prometheus: every query asked, the dashboard checked and drawn'
	echo 'make dashboard  renew the dashboard that is generated; make picture draws it'
	echo 'make prove    the flow simulated on a virtual clock, whatever fails (make prove ARGS="--runs 20000 --seed 7")'
	echo 'make storm    workers and broker killed at random under load (make storm ARGS="--seed 7")'
	echo 'make flow-storm  outages, quotas, slowness and crowds against numbers (make flow-storm ARGS="outage quota")'
	echo 'make replay-storm   parked replay killed twenty times in the middle of 500 requests'
	echo 'make bench    what a request costs, beside other libraries (make bench ARGS=--quick: in four minutes)'
	echo 'make test-deploy  the image, built and run in containers, and the compose file (root, Debian)'
	echo 'make test-languages  types of the messages in TypeScript and Go, generated, compiled and tried (root, Debian)'
	echo 'make test-senders  the programs of docs/senders.md, in each language that can be installed'
	echo 'make image    the image (make image ENGINE=podman SOURCE=https://… ARGS="--build-arg PIP_INDEX_URL=https://…")'
	echo 'make wheel    dist/*.whl, the same bytes each time'
	echo 'make sbom     dist/sbom.cdx.json: what the image installs, with hashes, licences and dependencies (CycloneDX)'
	echo 'make check    format, lint, types, lock files'
	echo 'make format   mend format and what lint can mend'
	echo 'make rules    renew what is generated from deploy/prometheus/rules (make rules RUNBOOK=https://… writes its address)'
	echo 'make settings renew docs/settings.md; make errors renews docs/errors.md'
	echo 'make lock     renew the lock files (needs the network)'
	echo 'make clean    take away .venv and what tools left'

setup: python
	test -n "$$WORKER_AMQP_URL" || scripts/servers.sh broker

python: $(INSTALLED)

$(INSTALLED): pyproject.toml requirements-dev.lock scripts/python.sh
	PYTHON="$(PYTHON)" scripts/python.sh $(VENV)
	touch $@

demo: python
	case "$(ARGS)" in *--broker*) ;; *) scripts/servers.sh broker ;; esac
	$(VENV)/bin/dcs-worker demo $(ARGS)

# Live tests wait for much of their time: three files at once keep two cores busy, and starve none.
PYTEST := $(RUN) -m pytest --numprocesses=3 --dist=loadfile

test: python
	scripts/servers.sh $$(scripts/test-servers.sh $(ARGS))
	$(PYTEST) --no-loadscope-reorder $(ARGS)

test-unit: python
	$(PYTEST) tests/unit tests/pipeline $(ARGS)

# One series after the other, each to its end; what failed is said last, where nothing hides it.
test-brokers: python
	scripts/servers.sh rabbitmq-server redis-server
	failed=; for series in $(or $(ARGS),$(SERIES)); do \
		echo "RabbitMQ $$series"; \
		{ scripts/chroot.sh $$series $(BROKERS)/$$series && TEST_RABBITMQ=$$series \
			scripts/on-broker.sh $(BROKERS)/$$series $(PYTEST) -m live tests/live; \
		} || failed="$$failed $$series"; \
	done; test -z "$$failed" || { echo "Failed on RabbitMQ$$failed" >&2; exit 1; }

PICTURE := docs/dashboard.png
FONTS := test -d /usr/share/fonts/truetype || scripts/packages.sh fonts-dejavu-core

test-dashboard: python
	$(FONTS)
	scripts/servers.sh rabbitmq-server redis-server prometheus chromium npm
	$(RUN) -m pytest -m dashboard tests/deploy $(ARGS)

dashboard: python
	$(RUN) -m scripts.grafana.generate

picture: python
	$(FONTS)
	scripts/servers.sh rabbitmq-server redis-server prometheus chromium npm pngquant
	$(RUN) -m tools.deploy.draw_dashboard $(PICTURE)
	pngquant --force --nofs --output $(PICTURE) 64 $(PICTURE)

test-deploy: python $(BASE) $(COMPOSE)
	scripts/servers.sh rabbitmq-server redis-server prometheus buildah podman runc catatonit
	$(RUN) -m pytest -m image tests/deploy $(ARGS)

test-languages: python
	command -v go >/dev/null || scripts/packages.sh golang-go
	scripts/servers.sh rabbitmq-server npm
	$(RUN) -m pytest -m languages tests/deploy $(ARGS)

SENDERS := default-jdk-headless librabbitmq-client-java php-cli php-amqplib ruby-bunny \
	golang-go golang-github-rabbitmq-amqp091-go-dev

# What cannot be installed is skipped, with a word why.
test-senders: python
	scripts/servers.sh rabbitmq-server
	scripts/servers.sh npm curl || true
	scripts/packages.sh $(SENDERS) || for package in $(SENDERS); do scripts/packages.sh $$package || true; done
	$(RUN) -m pytest -m senders tests/deploy $(ARGS)

# What stands in for the slim image of Python on Debian 13, which no package registry has: like it, it has no manuals,
# no translations and no bytecode.
$(BASE):
	scripts/servers.sh mmdebstrap
	mmdebstrap --quiet --mode=root --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
		$(foreach kind,doc man locale info lintian,--dpkgopt='path-exclude=/usr/share/$(kind)/*') \
		--dpkgopt='path-include=/usr/share/doc/*/copyright' \
		--customize-hook='find "$$1/usr/lib" -name "*.pyc" -delete' trixie $@.part.tar
	mv $@.part.tar $@

$(COMPOSE):
	scripts/servers.sh mmdebstrap
	rm -rf $@.part
	mmdebstrap --quiet --mode=root --variant=extract --include=docker-compose trixie $@.part
	mv $@.part $@

# Podman and Buildah take the date of the commit for everything in the layers, so that they are the same each time.
image:
	BUILDAH_FORMAT=docker $(ENGINE) build --tag dcs-migration-worker:$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) \
		--build-arg REVISION=$$(git rev-parse HEAD) \
		--label org.opencontainers.image.created=$$(git log -1 --format=%cI) \
		$(if $(SOURCE),--label org.opencontainers.image.source="$(SOURCE)") \
		$(if $(filter podman buildah,$(notdir $(firstword $(ENGINE)))),--timestamp $$(git log -1 --format=%ct)) $(ARGS) .

# It is made of its content alone: neither when nor where shows.
wheel: python
	rm -f dist/*.whl
	SOURCE_DATE_EPOCH=1580601600 $(RUN) -m pip -qq --disable-pip-version-check wheel --no-index --no-deps \
		--no-build-isolation --wheel-dir dist .

sbom: wheel
	rm -rf $(SHIPPED)
	$(RUN) -m venv --without-pip $(SHIPPED)
	$(RUN) -m pip -qq --python $(SHIPPED)/bin/python --disable-pip-version-check --no-input install --require-hashes \
		--no-deps --report $(SHIPPED)/installed.json --requirement requirements.lock
	$(RUN) -m pip -qq --python $(SHIPPED)/bin/python --disable-pip-version-check install --no-index --no-deps dist/*.whl
	$(VENV)/bin/cyclonedx-py environment --validate --gather-license-texts --output-reproducible \
		--pyproject pyproject.toml --output-file dist/sbom.cdx.json $(SHIPPED)/bin/python
	$(RUN) scripts/material_hashes.py $(SHIPPED)/installed.json dist/sbom.cdx.json

prove: python
	$(RUN) -m tests.simulation $(ARGS)

storm: python
	scripts/servers.sh rabbitmq-server
	$(RUN) -m tools.storms.kill_storm $(ARGS)

flow-storm: python
	scripts/servers.sh rabbitmq-server
	$(RUN) -m tools.storms.throttle_storm $(ARGS)

replay-storm: python
	scripts/servers.sh rabbitmq-server
	$(RUN) -m tools.storms.replay_storm $(ARGS)

bench: python $(BENCH)/.installed
	PATH="$$PATH:/usr/sbin" scripts/servers.sh rabbitmq-server redis-server nginx
	$(RUN) -m tools.bench $(ARGS)

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
	$(VENV)/bin/mypy schemas worker tests tools scripts
	$(RUN) -m pytest --quiet tests/unit/test_lock_files.py

format: python
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

rules: python
	$(RUN) -m scripts.prometheusrule $(if $(RUNBOOK),--runbook "$(RUNBOOK)")
	$(RUN) -m scripts.grafana.generate

settings: python
	$(RUN) -m scripts.settings_page

errors: python
	$(RUN) -m scripts.errors_page

COMPILE = $(VENV)/tools/bin/uv pip compile --universal --generate-hashes --no-emit-index-url \
	--no-annotate --no-header --quiet $(ARGS)
PROJECT := pyproject.toml --extra tracing

lock:
	test -x $(VENV)/tools/bin/uv || "$(PYTHON)" -m venv $(VENV)/tools
	$(VENV)/tools/bin/python -m pip install -qq uv==$(UV_VERSION)
	$(COMPILE) $(PROJECT) -o requirements.lock
	$(COMPILE) $(PROJECT) --group dev -o requirements-dev.lock
	$(COMPILE) --group build -o requirements-build.lock
	$(COMPILE) $(PEERS).in --python-version 3.11 -o $(PEERS).txt

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
