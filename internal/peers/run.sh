#!/usr/bin/env bash
# Measures a front door beside its peers, on this machine, and prints Markdown tables.
#
#   internal/peers/run.sh [BINARY] [flags of cmd/bench]
#
# BINARY is the front door to measure; without it examples/frontdoor is built and measured. README.md says what flags a binary must take.
#
#   SHORT=1   ours and nginx, one round of the main suites: under a minute, to see that all works
#   OUT       the results file; more rounds are appended to it
#   PLOT      an SVG file: latency around the swaps of the run (needs the swap suite)
#   WORK      the scratch folder
#   LOCK      a file to lock around each measurement, where others measure on this machine too
#   PEER_CADDY, PEER_KAMAL, PEER_EXTRA   more peers: see README.md
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
ours=
case ${1:-} in
"" | -*) ;;
*)
	ours=$(realpath "$1")
	shift
	;;
esac
PATH=$PATH:/usr/sbin
for tool in nginx haproxy wrk openssl taskset; do
	command -v $tool >/dev/null || { echo "needs $tool: apt-get install nginx haproxy wrk openssl util-linux" >&2; exit 1; }
done
work=${WORK:-$(mktemp -d)}
mkdir -p "$work/bin"
(cd "$here" && go build -o "$work/bin/" ./cmd/...)
if [ -z "$ours" ]; then
	ours=$work/bin/frontdoor
	(cd "$here/../.." && go build -o "$ours" ./examples/frontdoor)
fi
short=()
if [ -n "${SHORT:-}" ]; then
	short=(-peers ours,nginx -rounds 1 -settings shared -suites keep,conn,bulk,tls,swap -secs 1.5 -rates 5000 -swaps 20)
fi
record=()
if [ -n "${PLOT:-}" ]; then
	rm -rf "$work/traces"
	record=(-record "$work/traces")
fi
out=${OUT:-$work/results.jsonl}
echo "results: $out (the tables again: $work/bin/bench -report $out)" >&2
"$work/bin/bench" -bin "$work/bin" -templates "$here/peers" -work "$work/run.$$" -out "$out" -ours "$ours" \
	${LOCK:+-lock "$LOCK"} ${short[@]+"${short[@]}"} ${record[@]+"${record[@]}"} "$@"
if [ -n "${PLOT:-}" ]; then
	"$work/bin/plot" -out "$PLOT" "$work"/traces/*.trace
	echo "picture: $PLOT" >&2
fi
