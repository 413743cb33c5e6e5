#!/usr/bin/env bash
# Checks and times LeakRT on this machine's GPU: the one command. See README.md beside it, or verify.sh --help.
# $PYTHON: the interpreter with torch; python3 when not set.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
exec "${PYTHON:-python3}" "$here/verify.py" "$@"
