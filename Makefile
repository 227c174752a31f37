# The front door. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
CARGO ?= cargo

.DEFAULT_GOAL := help
# What `make lab` boots, and how many pods come and go there.
LAB_MACHINES ?= two four memory-only migration
LAB_PODS ?= 200
# How long `make fuzz` is at each parser; what it finds on its way stays in tests/fuzz/target/found.
FUZZ_SECONDS ?= 60

.PHONY: help demo test check bench plan fmt clippy doc deny manifests build sbom tools fuzz lab conformance

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: tools ## Hold this very machine in throw-away namespaces: plan, apply, drift, heal, crash, roll back
	$(CARGO) build --release --locked --bin trimtab
	deploy/demo/demo.sh target/release/trimtab

test: tools ## Run all tests: domain, hermetic, real kernel in namespaces, parity with the kubelet
	$(CARGO) test --workspace --locked

check: fmt clippy doc test deny manifests ## What CI runs
	@echo "check: all green"

bench: tools ## Measure: the decisions, the daemon and its masquerading on this machine
	$(CARGO) bench --locked -p trimtab-domain
	$(CARGO) bench --locked -p trimtab --bench desk --bench nri --bench api
	$(CARGO) build --release --locked --bin trimtab
	benches/daemon.sh target/release/trimtab
	benches/masquerade.sh target/release/trimtab
	$(CARGO) test --release --locked -p trimtab --test kernel -- --ignored --nocapture --test-threads=1 containerd::measure

plan: ## Show what the example profile would change on this machine; changes nothing
	$(CARGO) run --locked --quiet --bin trimtab -- plan --profile deploy/examples/profile.yaml || [ $$? = 2 ]

fmt: ## Formatting is as rustfmt says
	$(CARGO) fmt --all --check

clippy: ## Lints, warnings are errors
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc: ## The documentation, private items included, builds without warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --locked --document-private-items

deny: ## Licences, sources, bans
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny@0.20.2
	$(CARGO) deny --locked check bans licenses sources
	$(CARGO) deny --locked --manifest-path tests/fuzz/Cargo.toml check bans licenses sources

manifests: tools ## Render the manifests and validate them against the Kubernetes schema
	deploy/dev/validate-manifests.sh
	deploy/dev/validate-packages.sh

build: ## Build the release binary, its manual pages and its completions (target/man, target/completions)
	$(CARGO) build --release --locked --bin trimtab
	target/release/trimtab man target/man
	mkdir -p target/completions
	for shell in bash zsh fish; do target/release/trimtab completions $$shell >target/completions/trimtab.$$shell; done

sbom: ## List what the program is made of, as CycloneDX: target/trimtab.cdx.json
	@command -v cargo-cyclonedx >/dev/null || $(CARGO) install --locked cargo-cyclonedx@0.5.9
	$(CARGO) cyclonedx --manifest-path agent/Cargo.toml --format json --spec-version 1.5 --override-filename trimtab.cdx
	mkdir -p target && mv agent/trimtab.cdx.json target/ && rm -f agent/*/trimtab.cdx.json proto/trimtab.cdx.json

lab: build ## Boot machines with several NUMA nodes and a real container runtime, and disturb the agent there
	@deploy/dev/install-tools.sh lab
	$(CARGO) test --locked -p trimtab --test lab -- boot --agent "$(CURDIR)/target/release/trimtab" --churn $(LAB_PODS) $(LAB_MACHINES)

conformance: ## Run the agent at a real API server, and beside a real kubelet: make conformance KUBE_APISERVER=… ETCD=… [KUBELET=…]
	@[ -n "$(KUBE_APISERVER)" ] && [ -n "$(ETCD)" ] || { echo "skipped: give KUBE_APISERVER and ETCD, paths of the two programs"; exit 0; }; \
	$(CARGO) build --locked --bin trimtab && tests/conformance/run.sh "$(KUBE_APISERVER)" "$(ETCD)" target/debug/trimtab && \
	{ [ -n "$(KUBELET)" ] || { echo "skipped: give KUBELET too, to run the agent beside it"; exit 0; }; \
	tests/conformance/kubelet.sh "$(KUBE_APISERVER)" "$(ETCD)" "$(KUBELET)" target/debug/trimtab; }

fuzz: ## Fuzz every parser for a minute each (needs a nightly toolchain and cargo-fuzz)
	for target in $$($(CARGO) +nightly fuzz list --fuzz-dir tests/fuzz); do \
	  found=tests/fuzz/target/found/$$target; mkdir -p "$$found"; \
	  $(CARGO) +nightly fuzz run --fuzz-dir tests/fuzz "$$target" "$$found" "tests/fuzz/corpus/$$target" -- -max_total_time=$(FUZZ_SECONDS) \
	    || exit 1; done

tools: ## Install what demo and tests need on Debian and Ubuntu; say what is missing elsewhere
	@deploy/dev/install-tools.sh
