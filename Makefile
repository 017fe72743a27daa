# `make help` lists what there is. Each target installs what it lacks from Debian and says what it does.
PREFIX ?= /usr/local
DESTDIR ?=
SWIFT_BUILD = swift build -c release --static-swift-stdlib --explicit-target-dependency-import-check=error --product scrim
SCRIM = .build/release/scrim
COMPLETIONS = bash:bash-completion/completions/scrim zsh:zsh/site-functions/_scrim fish:fish/vendor_completions.d/scrim.fish
TAB := $(shell printf '\t')

.DEFAULT_GOAL := build
.PHONY: help build demo test lint format install uninstall bench crash-test soak fuzz clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1$(TAB)\2/p' Makefile | expand -t 14

build: ## the program, as .build/release/scrim, with the Swift runtime inside
	@.ci/deps.sh build
	@echo "build: $(SWIFT_BUILD)"
	@$(SWIFT_BUILD)
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

install: build ## to $(DESTDIR)$(PREFIX), with completions for bash, zsh and fish
	@echo "install: $(DESTDIR)$(PREFIX)/bin/scrim"
	@install -D -m 0755 $(SCRIM) "$(DESTDIR)$(PREFIX)/bin/scrim"
	@for pair in $(COMPLETIONS); do \
		target="$(DESTDIR)$(PREFIX)/share/$${pair#*:}"; \
		echo "install: $$target"; \
		mkdir -p "$${target%/*}" && $(SCRIM) --generate-completion-script $${pair%%:*} >"$$target" || exit 1; \
	done

uninstall: ## take away what install put there
	@echo "uninstall: $(DESTDIR)$(PREFIX)"
	@rm -f "$(DESTDIR)$(PREFIX)/bin/scrim"
	@for pair in $(COMPLETIONS); do rm -f "$(DESTDIR)$(PREFIX)/share/$${pair#*:}"; done

bench: build ## figures beside the bare folder and the peers
	@.ci/deps.sh
	@Benchmarks/run

crash-test: build ## power cuts and kills at every write, longer than in `make test`
	@.ci/deps.sh
	@Tests/Crash/run

soak: build ## POSIX behaviour in every mode, databases and stressors, for long
	@.ci/deps.sh
	@Tests/Soak/run

fuzz: ## the decoders against random bytes
	@.ci/deps.sh build
	@Tests/Fuzz/run

clean: ## take away everything that was built
	@echo "clean: .build"
	@rm -rf .build
