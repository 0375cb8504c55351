# Needs Python >= 3.11, git and make; everything else is fetched into .tools/, .venv/ and .venv-oldest/.
PYTHON ?= python3
VENV := .venv/bin

# What is set up, built and tested is shown as it happens.
export PYTHONUNBUFFERED := 1
# Cold starts are measured and waited for: let Python keep its bytecode.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help python setup tools prepare demo test lint format bench serve wheels build constraints clean

help: ## show this list
	@sed -n 's/^\([a-z ]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'needs Python 3.11 or later: make $(MAKECMDGOALS) PYTHON=/path/to/python3.13' >&2; exit 1; }

setup: python ## make .venv (Python 3.13) with our packages and all that development needs
	@$(PYTHON) -m scripts.environments development

tools: python ## fetch the AWS Lambda emulator, AWS SAM and Azurite into .tools/
	@$(PYTHON) -m scripts.environments tools

prepare: setup ## fetch whatever else the suites need
	@$(PYTHON) -m scripts.environments tools oldest

demo: setup tools ## one agent on Lambda and on Azure Functions, remembering across cold starts
	@PATH="$(CURDIR)/$(VENV):$$PATH" $(VENV)/python -m scripts.demo

test: python ## every suite, emulators included, also on the oldest Python found; arguments for pytest: ARGS="-k name"
	@$(PYTHON) -m scripts.environments development tools oldest
	@PATH="$(CURDIR)/$(VENV):$$PATH" $(VENV)/python -m scripts.suites $(ARGS)

lint: setup ## ruff, pyright, and no registry's address or path of this machine in a tracked file
	@$(VENV)/ruff check
	@$(VENV)/ruff format --check
	@PATH="$(CURDIR)/$(VENV):$$PATH" $(VENV)/pyright
	@$(VENV)/python -m scripts.addresses

format: setup ## put the code in order
	@$(VENV)/ruff check --fix
	@$(VENV)/ruff format

bench: setup tools ## measure, compare with the targets, and rewrite benchmarks/RESULTS.md
	@PATH="$(CURDIR)/$(VENV):$$PATH" $(VENV)/python -m benchmarks

serve: setup ## serve the sample agent on this machine
	@$(VENV)/python samples/server/app.py

wheels: python ## build the wheel of every package into dist/
	@$(PYTHON) -m scripts.wheels

build: wheels

constraints: python ## take newer releases of what we depend on
	@$(PYTHON) -m scripts.constraints

clean: ## remove everything that was fetched or built; conversations (.state) stay
	@rm -rf .venv .venv-oldest .tools .pytest_cache .ruff_cache .hypothesis build dist
	@rm -rf samples/*/build samples/*/.venv samples/*/.aws-sam infra/*/.aws-sam samples/aws_lambda/function.zip
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
