#!/bin/sh
# Starts the server: Flower's SuperLink with TLS, which lets in only the nodes whose keys are in nodes/.
# It stays until it is ended with Ctrl-C or SIGTERM. Training starts with: fedlight deploy run DIR
set -eu
exec fedlight deploy serve "$(cd "$(dirname "$0")" && pwd)" "$@"
