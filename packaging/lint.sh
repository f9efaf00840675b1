#!/usr/bin/env bash
# Holds the packages in target/packages to the distributions' rules: no errors from lintian and rpmlint.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${CARGO_TARGET_DIR:-target}/packages
lintian --allow-root --fail-on error --tag-display-limit 0 "$out"/*.deb
rpmlint --config packaging/rpm/rpmlint.toml "$out"/*.rpm
