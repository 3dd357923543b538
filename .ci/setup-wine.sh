#!/usr/bin/env bash
# Puts Wine 10 beside the system, in one private directory, so that Go's windows/amd64 test programs run on a Debian machine:
#
#   .ci/setup-wine.sh [DIR]      DIR defaults to ${XDG_CACHE_HOME:-$HOME/.cache}/wine10; 1.5 GB
#   export PATH="$PATH:DIR/bin"  then: GOOS=windows go test ./...
#
# .ci/wine does both, for all packages. Nothing is installed system-wide except patchelf, where it is missing. Wine and its C library come
# from Debian 13 through the Debian mirror that apt is configured for (Debian 12's Wine 8 is too old for Go 1.26: it lacks
# bcryptprimitives.dll, and os.RemoveAll fails under it). Running it again is cheap: it ends at once when DIR already works.
#
# For whoever starts a program by DIR/bin/go_windows_amd64_exec: WINEPREFIX picks another prefix, WINEDEBUG= (empty) shows Wine's own
# messages, WINE_LINGER sets how many seconds Wine stays up after the last program. DIR/bin/wine-stop ends everything in the prefix.
set -euo pipefail

dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/wine10}
suite=${WINE_SUITE:-trixie}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
root=$dir/root
exec 9>"$dir/.lock"
flock 9                                  # two callers: the second waits, then finds it done

works() {
	local out
	[ -e "$dir/ready" ] || return 1
	out=$(timeout -s KILL 60 "$dir/bin/go_windows_amd64_exec" cmd /c 'echo wine-ok' 2>/dev/null 9>&-) || return 1
	[[ $out == *wine-ok* ]]
}
if works; then
	echo "wine: already set up in $dir"
	exit 0
fi

if ! command -v patchelf >/dev/null; then
	apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends patchelf >/dev/null ||
		{ apt-get -o DPkg::Lock::Timeout=600 update && apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends patchelf; } >/dev/null
fi

# The mirror that apt is configured for (never the security one).
mirror=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)' 2>/dev/null |
	awk -F'|' '$1=="Debian" && $2=="Debian" && $3=="main" {print $4; exit}')
if [ -z "$mirror" ]; then
	apt-get -o DPkg::Lock::Timeout=600 update >/dev/null
	mirror=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)' |
		awk -F'|' '$1=="Debian" && $2=="Debian" && $3=="main" {print $4; exit}')
fi
[ -n "$mirror" ] || { echo "wine: no Debian mirror is configured here" >&2; exit 1; }

if [ -x "$root/usr/lib/wine/wineserver64" ]; then # a half-made one may still run
	WINEPREFIX=$dir/prefix "$root/usr/lib/wine/wineserver64" -k9 >/dev/null 2>&1 || true
fi
apt=$dir/apt
rm -rf "$apt" "$root" "$dir/prefix" "$dir/ready"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/debs" "$root"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror $suite main" >"$apt/sources.list"
private_apt() {
	apt-get -qq \
		-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::State::lists="$apt/lists" -o Dir::State::status=/dev/null \
		-o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root \
		-o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}
private_apt update
(cd "$apt/debs" && private_apt download wine64 libwine libz-mingw-w64 libc6 libunwind8)
for deb in "$apt"/debs/*.deb; do dpkg -x "$deb" "$root"; done
rm -rf "$apt"

wine=$root/usr/lib/wine
libs=$root/usr/lib/x86_64-linux-gnu
dlls=$libs/wine/x86_64-windows
rm -rf "$libs/wine/i386-windows" "$root/usr/share/doc" "$root/usr/share/locale"

# Wine's own loader and server use the private C library; everything else goes on using the system's.
for exe in wine64 wineserver64; do
	patchelf --set-interpreter "$libs/ld-linux-x86-64.so.2" --force-rpath \
		--set-rpath "$libs:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu" "$wine/$exe"
done
# The packaged wineserver is a script with fixed paths. This one serves its own
# directory, and stays up for a minute so that a run of many test binaries
# boots Wine once.
rm -f "$wine/wineserver"
cat >"$wine/wineserver" <<-'SH'
	#!/bin/sh
	exec "${0%/*}/wineserver64" -p"${WINE_LINGER:-60}" "$@"
SH
chmod +x "$wine/wineserver"

# The server looks for its tables in ../../share/wine/wine/nls.
ln -sfn . "$root/usr/share/wine/wine"

# No font engine. On bare machines (FreeType but no fonts) Wine's desktop process
# was seen to respawn without end: thousands within minutes.
# An empty file here, first on the search path, keeps the system's copy away; and
# the complaint about it, which would get into the output that tests read, is
# made an empty string.
: >"$libs/libfreetype.so.6"
LC_ALL=C sed -i 's/Wine cannot find the FreeType font library/\x00ine cannot find the FreeType font library/' \
	"$libs/wine/x86_64-unix/win32u.so"

# What libwine's installer does: mark zlib1.dll as one of Wine's own.
zlib=$root/usr/x86_64-w64-mingw32/lib/zlib1.dll
{
	head -c 64 "$zlib"
	printf 'Wine builtin DLL'
	head -c 16 /dev/zero
	tail -c +97 "$zlib"
} >"$dlls/zlib1.dll"

# go test finds go_${GOOS}_${GOARCH}_exec on PATH by itself. The first line
# boots Wine detached from go test's pipes: were it left to the test binary,
# Wine's service processes would hold them open and go test would wait a minute
# and then fail.
mkdir -p "$dir/bin"
cat >"$dir/bin/go_windows_amd64_exec" <<-'SH'
	#!/bin/sh
	dir=$(cd "${0%/*}/.." && pwd)
	[ -e "$dir/ready" ] || { echo "wine: $dir is not set up" >&2; exit 125; }
	: "${WINEPREFIX:=$dir/prefix}" "${WINEDEBUG:=-all}" "${WINEDLLOVERRIDES:=mscoree,mshtml=;winemenubuilder.exe=d}"
	export WINEPREFIX WINEDEBUG WINEDLLOVERRIDES
	wine=$dir/root/usr/lib/wine
	"$wine/wine64" cmd /c exit </dev/null >/dev/null 2>&1
	exec "$wine/wine64" "$@"
SH
cat >"$dir/bin/wine-stop" <<-'SH'
	#!/bin/sh
	dir=$(cd "${0%/*}/.." && pwd)
	WINEPREFIX=${WINEPREFIX:-$dir/prefix} exec "$dir/root/usr/lib/wine/wineserver64" -k
SH
chmod +x "$dir/bin/go_windows_amd64_exec" "$dir/bin/wine-stop"

# A fresh prefix. Should the desktop process multiply all the same, everything
# in the prefix is ended at once.
export WINEPREFIX=$dir/prefix WINEDEBUG=-all WINEDLLOVERRIDES='mscoree,mshtml=;winemenubuilder.exe=d'
fail() {
	echo "wine: $1" >&2
	"$wine/wineserver64" -k9 >/dev/null 2>&1 || true
	rm -rf "$dir/ready" "$dir/prefix"
	exit 1
}
timeout -s KILL 180 "$wine/wine64" wineboot -i </dev/null >/dev/null 2>&1 9>&- &
boot=$!
while kill -0 "$boot" 2>/dev/null; do
	desktops=$({ grep -la 'explorer.exe' /proc/[0-9]*/cmdline 2>/dev/null || true; } | wc -l)
	[ "$desktops" -le 20 ] || fail "the desktop process multiplies; stopped"
	sleep 0.2
done
wait "$boot" || fail "the prefix could not be made"
# The null graphics driver lets COM create its hidden windows without a display.
timeout -s KILL 60 "$wine/wine64" reg add 'HKCU\Software\Wine\Drivers' /v Graphics /d null /f </dev/null >/dev/null 2>&1 9>&- ||
	fail "the registry could not be written"
"$wine/wineserver64" -k >/dev/null 2>&1 || true
"$wine/wineserver64" -w >/dev/null 2>&1 || true
: >"$dir/ready"

works || fail "set-up did not yield a working Wine in $dir"
echo "wine: $("$wine/wine64" --version 2>/dev/null) ready; add $dir/bin to PATH"
