# Two commands on a fresh machine: `make demo` and `make test`. Everything else sets up by itself as well.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
PROCESSES ?= 4
# Where this is set, each of the hundreds of processes that tests start would compile all of the service for itself.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test connect-tests sink-tests browser-tests js-test deploy-check check exactly-once compiled day bench format lock schemas clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv from the lock file

$(READY): requirements/dev.lock sdk/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Spendfuse needs Python 3.11 or newer; $$($(PYTHON) --version) was found. Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	@echo "setting up, 1 of 3: $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "setting up, 2 of 3: packages, $$(grep -c '==' $<) of them, in a minute or two"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@echo "setting up, 3 of 3: the client"
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -e ./sdk
	@touch $@
	@echo "ready: \`make demo\` shows it at work; \`python\` in README and docs is $(PY)"

demo: $(READY) ## replay a week of real usage with three incidents in it; ONCE=1 ends by itself
	@$(PY) -m infra.demo $(if $(ONCE),--once)

# Most of what takes long waits: for a broker, a session's end, a process that starts. So there are more than cores.
test: $(READY) ## run every test this machine can run
	@$(PY) -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

# What cannot be had here is left out, and its tests say so by name.
connect-tests: $(READY) ## the client libraries of other systems against the gateway, each in an environment of its own
	@for lock in tests/connect/*.lock; do name=$$(basename $$lock .lock); home=.cache/connect/$$name; \
		cmp -s $$lock $$home/lock && continue; \
		echo "setting up $$name"; rm -rf $$home; \
		{ $(PYTHON) -m venv $$home && $$home/bin/python -m pip install --quiet --disable-pip-version-check \
			--require-hashes -r $$lock && cp $$lock $$home/lock; } || rm -rf $$home; done
	@for lock in tests/connect/*/package-lock.json; do from=$$(dirname $$lock); home=.cache/connect/$$(basename $$from); \
		cmp -s $$lock $$home/lock && continue; \
		echo "setting up $$(basename $$from)"; rm -rf $$home; mkdir -p $$home; \
		{ cp $$from/package*.json $$home && npm ci --prefix $$home --silent --ignore-scripts --no-audit --no-fund \
			&& cp $$lock $$home/lock; } || rm -rf $$home; done
	@REQUIRE_KAFKA=1 $(PY) -m pytest -p no:xdist tests/connect

# `make test` has DuckDB, and Postgres where its binaries are; the other two come in an environment of their own.
SINKS := .cache/sinks
sink-tests: $(READY) ## the sink into every store: DuckDB, Postgres, ClickHouse and BigQuery
	@cmp -s tests/sinks/stores.lock $(SINKS)/lock || { echo "setting up the stores, in a minute or two"; rm -rf $(SINKS); \
		$(PYTHON) -m venv $(SINKS) && $(SINKS)/bin/python -m pip install --quiet --disable-pip-version-check \
			--require-hashes -r tests/sinks/stores.lock \
		&& $(SINKS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e ./sdk \
		&& $(SINKS)/bin/python -c 'import duckdb_extensions; duckdb_extensions.import_extension("spatial")' \
		&& cp tests/sinks/stores.lock $(SINKS)/lock; }
	@REQUIRE_KAFKA=1 $(SINKS)/bin/python -m pytest -p no:xdist tests/sinks tests/integration/test_sink.py

# Needs Chromium on this machine (apt-get install chromium), and npm for axe. What cannot be had is left out by name.
BROWSER := .cache/browser
browser-tests: $(READY) ## the live page in a real browser, against real brokers
	@cmp -s tests/browser/browser.lock $(BROWSER)/lock || { echo "setting up playwright"; rm -rf $(BROWSER)/python; \
		mkdir -p $(BROWSER) && $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes \
			--target $(BROWSER)/python -r tests/browser/browser.lock && cp tests/browser/browser.lock $(BROWSER)/lock; }
	@cmp -s tests/browser/package-lock.json $(BROWSER)/npm/lock || { echo "setting up axe"; rm -rf $(BROWSER)/npm; \
		mkdir -p $(BROWSER)/npm && cp tests/browser/package*.json $(BROWSER)/npm && \
		npm ci --prefix $(BROWSER)/npm --silent --ignore-scripts --no-audit --no-fund && \
		cp tests/browser/package-lock.json $(BROWSER)/npm/lock || true; }
	@REQUIRE_KAFKA=1 $(PY) -m pytest -p no:xdist tests/browser

# TypeScript and Node's types come by the lock file; the client itself needs nothing but Node.
js-test: $(READY) ## build the TypeScript client and test it, against a running gateway too; needs Node.js with npm
	@cd sdk/js && npm ci --no-audit --no-fund --ignore-scripts --silent && npx tsc && npm test --silent
	@REQUIRE_KAFKA=1 $(PY) -m pytest -q -p no:xdist tests/connect/test_sdk_typescript.py

check: $(READY) ## linters, types, exported schemas and pages
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) -m mypy --config-file sdk/pyproject.toml sdk/src/spendfuse
	@$(PY) -m schemas check
	@$(PY) -m models check
	@$(PY) -m infra.grafana check

# Programs by their locked sources, built for minutes once; whatever cannot be had here is left out, and its tests say so by name.
deploy-check: $(READY) ## image, compose, chart, dashboards and rules by the real Helm, Compose and Prometheus; needs Go
	@for sums in requirements/go/*/go.sum; do from=$$(dirname $$sums); home=$(CURDIR)/.cache/deploy/$$(basename $$from); \
		cmp -s $$sums $$home/go.sum && continue; \
		echo "building $$(basename $$from)"; rm -rf $$home; mkdir -p $$home; \
		{ GOBIN=$$home go -C $$from install -trimpath -tags remove_all_sd,enable_dns_sd tool && cp $$sums $$home; } || rm -rf $$home; done
	@lock=requirements/deploy.lock; home=.cache/deploy/schemas; cmp -s $$lock $$home/lock || { \
		echo "setting up schemas"; rm -rf $$home; \
		{ $(PYTHON) -m venv $$home && $$home/bin/python -m pip install --quiet --disable-pip-version-check \
			--require-hashes -r $$lock && cp $$lock $$home/lock; } || rm -rf $$home; }
	@DEPLOY_CHECK=1 $(PY) -m pytest -p no:xdist tests/deploy tests/unit/deploy tests/unit/test_self_alerts.py

exactly-once: $(READY) ## 200,000 events and a dozen kills of the worker, against a backtest and a recount
	@REQUIRE_KAFKA=1 SPENDFUSE_TEST_EVENTS=200000 $(PY) -m pytest -q -p no:xdist tests/integration/test_exactly_once.py

compiled: $(READY) ## a faster copy of the service in build/compiled; needs a C compiler
	@$(PY) -m infra.compiled

day: $(READY) ## ten minutes in which everything that may fail does, at random, beside a thousand honest runs
	@REQUIRE_KAFKA=1 SPENDFUSE_DAY_MINUTES=10 $(PY) -m pytest -q -p no:xdist tests/day

bench: $(READY) ## measure, beside the peers, on a real Kafka
	@$(PY) -m tests.bench

format: $(READY) ## put the code in order
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

schemas: $(READY) ## write the JSON Schemas and Grafana's pages again
	@$(PY) -m schemas export
	@$(PY) -m models export
	@$(PY) -m infra.grafana export

lock: ## renew the lock files; needs uv
	uv pip compile -q pyproject.toml --group dev --python-version 3.11 --universal --no-emit-index-url --generate-hashes --no-header -o requirements/dev.lock
	uv pip compile -q pyproject.toml --extra sink-duckdb --extra sink-postgres --python-version 3.11 --universal --no-emit-index-url --generate-hashes --no-header -c requirements/dev.lock -o requirements/service.lock
	uv pip compile -q pyproject.toml --extra sink-duckdb --extra sink-postgres --extra traces --python-version 3.11 --universal --no-emit-index-url --generate-hashes --no-header -c requirements/dev.lock -o requirements/service-traces.lock
	uv pip compile -q --group compiler --python-version 3.11 --universal --no-emit-index-url --generate-hashes --no-header -o requirements/compiler.lock -c requirements/dev.lock
	uv pip compile -q requirements/peers.in --python-version 3.11 --universal --no-emit-index-url --generate-hashes --no-header -o requirements/peers.lock
	uv pip compile -q requirements/deploy.in --python-version 3.11 --universal --no-emit-index-url --generate-hashes --no-header -o requirements/deploy.lock
	uv pip compile -q pyproject.toml tests/sinks/stores.in --group dev --python-version 3.11 --universal --no-emit-index-url --generate-hashes --no-header -o tests/sinks/stores.lock
	for system in tests/connect/*.in tests/browser/*.in; do uv pip compile -q $$system --python-version 3.11 --universal --no-emit-index-url --generate-hashes --no-header -o $${system%.in}.lock; done

clean: ## remove what was set up
	rm -rf $(VENV) .cache out
