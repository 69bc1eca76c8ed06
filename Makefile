# The interface of this project: `make help` lists what there is.
SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
STAGE ?=

.DEFAULT_GOAL := help
.PHONY: help run test test-stripe demo bench lint build deploy openapi install clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

run: $(READY) ## Start the local stack (http://127.0.0.1:8787); Ctrl-C stops it
	@$(PY) -m local

test: $(READY) ## Run every test; make test ARGS=tests/unit runs some
	@if [ -n "$(ARGS)" ]; then $(PY) -m pytest -m "not build" $(ARGS); else sh scripts/test.sh $(PY); fi

test-stripe: $(READY) ## Ask a Stripe sandbox what docs leave open: STRIPE_TEST_KEY=sk_test_... (docs/testing.md)
	@$(PY) -m tests.sandbox

demo: $(READY) ## Replay a trace of LLM usage against the running stack and check Stripe's totals
	@$(PY) -m demo $(ARGS)

bench: $(READY) ## Print the budgets: requests, write units, bytes, imports, CPU, dollars
	@$(PY) -m bench $(ARGS)

lint: $(READY) ## ruff, mypy and the project's own rules
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(PY) scripts/rules.py

openapi: $(READY) ## Write openapi.json and catalog.schema.json from the code
	@$(PY) scripts/openapi.py

build: $(READY) ## Build the deployable artifacts (sam build, bytecode), no docker
	@sh scripts/build.sh

deploy: $(READY) ## Build and deploy: make deploy STAGE=dev|staging|prod (docs/deploy.md)
	@sh scripts/deploy.sh "$(STAGE)"

install: $(READY) ## Install everything that run, test and demo need into .venv

clean: ## Remove the environments and build results
	rm -rf $(VENV) .venv-sam .aws-sam .local

$(READY): requirements.txt constraints.txt layers/common/requirements.txt layers/stripe/requirements.txt \
		scripts/install.sh scripts/python.sh
	@sh scripts/install.sh $(VENV)
	@touch $@
