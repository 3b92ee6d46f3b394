# SPDX-License-Identifier: GPL-2.0
#
# "make help" says what there is. Documentation/kit.rst says the rest.

KDIR ?= /lib/modules/$(shell uname -r)/build
SUITE ?= trixie
ARCH ?= x86_64

export MEM SMP FLAVOUR KERNEL RELEASE UPDATE RUSTC BINDGEN LIMIT JOBS MINUTES SEED RECORD

.DEFAULT_GOAL := modules
PHONY := modules install uninstall kdir kernel run vm test test-all storm bench bench-check scaling profile preview-check check clean distclean help

# --- on a real machine ---

modules:
	+@scripts/build $(KDIR)

install: folio_mapcount.ko
	@scripts/install install $(KDIR)

uninstall:
	@scripts/install uninstall $(KDIR)

folio_mapcount.ko:
	@echo "error: there is no folio_mapcount.ko to install: run make first (as a user)" >&2; exit 1

# --- in the kit's virtual machines ---

kdir:
	@scripts/kdir $(SUITE) $(ARCH)
	@echo "KDIR=$(CURDIR)/build/$(SUITE)/$(ARCH)$(RELEASE:%=-%)$(FLAVOUR:%=-%)$(patsubst %,-%,$(filter-out stock,$(KERNEL)))/kdir"

kernel: override export KERNEL := $(or $(KERNEL),tracepoint)
kernel:
	@scripts/kernel $(SUITE) $(ARCH)

run:
	@scripts/run $(SUITE) $(ARCH)

# A command is the shell's, not make's: $$ and quotes reach it as they were typed.
vm: override export CMD := $(value CMD)
vm: export PKGS := $(PKGS)
vm: export SHARE := $(value SHARE)
vm:
	@scripts/vm $(SUITE) $(ARCH)

# Both architectures, unless somebody named one.
test test-all: export FMI_ARCH := $(if $(filter file,$(origin ARCH)),,$(ARCH))
test:
	@scripts/test

test-all:
	@FMI_TEST_ALL=1 scripts/test

storm:
	@scripts/storm $(SUITE) $(ARCH)

bench bench-check scaling profile preview-check:
	@scripts/$@ $(SUITE) $(ARCH)

check:
	@scripts/check $(SUITE)

# --- the rest ---

clean:
	@scripts/clean

distclean:
	@scripts/clean all

help:
	@sed -n '/^    make  *\S/,/^$$/p' Documentation/kit.rst | sed '/^$$/d'

.PHONY: $(PHONY)
