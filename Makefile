# Two commands from a clean clone: `make run` and `make test`. Everything else is listed by `make help`.

.DEFAULT_GOAL := help
.PHONY: help setup run test check fmt bench bench-peers crash real-model screenshots

BIN := .venv/bin
READY := .venv/.ready

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv from the hash-locked uv.lock (PYTHON=... chooses the interpreter)

$(READY): uv.lock pyproject.toml deploy/setup.sh deploy/uv.txt
	@deploy/setup.sh
	@touch $@

run: setup ## Start everything on this machine: Postgres, simulators of a model and of Stripe, gateway, portal and worker
	@$(BIN)/nusagate dev $(ARGS)

test: setup ## Run every test (ARGS=... goes to pytest)
	@deploy/system-tools.sh redis-server chromium
	$(BIN)/pytest -n 2 $(or $(ARGS),--ignore=tests/browser)
	$(if $(ARGS),,$(BIN)/pytest tests/browser)

check: setup ## Format, lint, types, import contracts and fast tests, in under a minute
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 -q -m "not slow" --hypothesis-profile=quick tests/unit tests/properties tests/architecture $(ARGS)

fmt: setup ## Format, and fix what ruff can fix
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: setup ## Measure against nginx in the same run, and print a table and a JSON document
	$(BIN)/python -m tests.bench $(ARGS)

bench-peers: setup ## Measure beside LiteLLM and Portkey, each in an environment of its own in .bench
	$(BIN)/python -m tests.bench.peers $(ARGS)

crash: setup ## Break everything on purpose and print what that violated (ARGS=--short for minutes)
	@deploy/system-tools.sh redis-server nginx strace slowhttptest nghttp2-client:h2load
	$(BIN)/python -m tests.crash $(or $(ARGS),--full)

screenshots: setup ## Make the pictures of the README again (ARGS='--all FOLDER' takes every page, to be looked at)
	@deploy/system-tools.sh redis-server chromium
	$(BIN)/python -m tests.browser.screenshots $(ARGS)

real-model: setup ## Drive the gateway with the official client against a real small model
	$(BIN)/python -m tests.system.real_model $(ARGS)
