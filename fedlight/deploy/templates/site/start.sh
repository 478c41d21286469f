#!/bin/sh
# Starts this site's node and stays until it is ended with Ctrl-C or SIGTERM. The node opens a connection to the
# server; nobody connects to it. Look first whether all is well: fedlight deploy check FOLDER
set -eu
exec fedlight deploy node "$(cd "$(dirname "$0")" && pwd)"
