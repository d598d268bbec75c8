# make demo     the main job: real attention tensors through the kernels, checked, with a report
# make test     every test; a missing adapter fails it; SUBQUAD_THOROUGH=1 runs every case by every plan, and not a sample by the planner's choice
# make measure  for a machine with a GPU: every case checked, then every benchmark, into bench.json and bench.html
# make check    what CI runs beside the tests: format, lints, documentation

CARGO ?= cargo

# What tests wait for is Mesa's software driver, which compiles kernels faster for vectors of 128 bits: subgroups of 4. No other driver
# looks at this. Where everything is run, kernels are those that users get.
NARROW = $(if $(SUBQUAD_THOROUGH),,LP_NATIVE_VECTOR_WIDTH=$${LP_NATIVE_VECTOR_WIDTH:-128})

.PHONY: demo test measure check driver

demo: driver
	$(CARGO) run --release --quiet -- demo --html subquad-demo.html

test: driver
	$(NARROW) $(CARGO) test

measure: driver
	$(CARGO) run --release --quiet -- info
	$(CARGO) run --release --quiet -- check
	$(CARGO) run --release --quiet -- bench --json bench.json --html bench.html

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features --lib -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

# On Linux without any Vulkan driver, installs the software one of the distribution. Elsewhere the system has its own.
driver:
	@sh -c 'set -e; \
	if [ "$$(uname -s)" != Linux ]; then exit 0; fi; \
	has() { ls /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json /usr/local/share/vulkan/icd.d/*.json \
	  "$$HOME"/.local/share/vulkan/icd.d/*.json $${VK_DRIVER_FILES:-} $${VK_ICD_FILENAMES:-} 2>/dev/null | grep -q json; }; \
	loader() { ldconfig -p 2>/dev/null | grep -q libvulkan.so.1 || /sbin/ldconfig -p 2>/dev/null | grep -q libvulkan.so.1; }; \
	if has && loader; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
	  echo "no Vulkan driver found: install Mesa'"'"'s software driver (lavapipe) with your package manager" >&2; exit 1; fi; \
	echo "no Vulkan driver found: installing mesa-vulkan-drivers"; \
	sudo=; if [ "$$(id -u)" != 0 ]; then sudo=sudo; fi; \
	$$sudo apt-get update -qq; \
	DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends libvulkan1 mesa-vulkan-drivers >/dev/null'
