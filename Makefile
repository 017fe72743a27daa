# `make help` lists what there is. Each target installs what it lacks from Debian and says what it does.
PREFIX ?= /usr/local
DESTDIR ?=
SWIFT_BUILD = swift build -c release --static-swift-stdlib --disable-local-rpath --explicit-target-dependency-import-check=error
SCRIM = .build/release/scrim
TAB := $(shell printf '\t')

.DEFAULT_GOAL := build
.PHONY: help build demo test lint format install uninstall deb package-test bench crash-test soak fuzz clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1$(TAB)\2/p' Makefile | expand -t 14

build: ## the programs, scrim and scrim-broker in .build/release, with the Swift runtime inside
	@.ci/deps.sh build
	@for product in scrim scrim-broker; do \
		echo "build: $(SWIFT_BUILD) --product $$product"; \
		$(SWIFT_BUILD) --product $$product || exit 1; \
	done
	@echo "build: $(SCRIM)"

demo: build ## a vault from init to remount, on a real tree, in a temporary folder
	@.ci/deps.sh
	@.ci/demo.sh $(SCRIM)

test: ## everything that is checked: style, build, unit, reader and end-to-end tests
	@.ci/test.sh

lint: ## style only
	@Tests/check.sh

format: ## rewrite the Swift sources in the project's style
	@echo "format: swift format"
	@swift format format --in-place --recursive --parallel Sources Tests Package.swift

install: build ## to $(DESTDIR)$(PREFIX): programs, man pages, completions, systemd units, and the helpers of mount(8)
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" Package/install

uninstall: ## take away what install put there
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" Package/install --uninstall

deb: build ## a Debian package, in dist
	@Package/deb

package-test: build ## that package on a fresh Debian without Swift: install, use, remove
	@.ci/deps.sh
	@Tests/Package/run

bench: build ## figures beside the bare folder and the peers
	@.ci/deps.sh
	@Benchmarks/run

crash-test: build ## power cuts and kills at every write, longer than in `make test`
	@.ci/deps.sh
	@Tests/Crash/run

soak: build ## POSIX behaviour in every mode, databases and stressors, for long
	@.ci/deps.sh soak
	@Tests/Soak/run

fuzz: ## the decoders against random bytes
	@.ci/deps.sh build
	@Tests/Fuzz/run

clean: ## take away everything that was built
	@echo "clean: .build"
	@rm -rf .build
