#!/usr/bin/env bash
# Builds the site into target/site, and checks its links: packaging/site/build.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

mkdir -p target
mdbook=$(tests/python.sh)/bin/mdbook
"$mdbook" build
while read -r file copy; do
  mkdir -p "target/site/files/$(dirname "$copy")"
  cp "$file" "target/site/files/$copy"
done <target/site-files
python3 packaging/site/check.py target/site
