#!/usr/bin/env bash
# unpack.sh SITE PART: puts one part of pack.py into the folder SITE. Any order; after the last, SITE is whole.
set -e
site=$1 part=$2
mkdir -p "$site"
for z in "$part"/*.zip; do [ -e "$z" ] && python3 -m zipfile -e "$z" "$site" & done
if ls "$part"/*.whl >/dev/null 2>&1; then
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" "$part"/*.whl
fi
wait
