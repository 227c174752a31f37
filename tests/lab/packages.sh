#!/usr/bin/env bash
# Fetches packages of a Debian suite and unpacks them beside the system, without installing them: prints one directory
# per package. They come from the mirror that apt is configured with and are checked with the keys that apt trusts.
#
#   packages.sh SUITE PACKAGE...
set -euo pipefail

[ $# -ge 2 ] || {
  sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
  exit 64
}
suite=$1
shift
cache=${TRIMTAB_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/trimtab-lab}/packages/$suite

give_up() {
  echo "packages.sh: $*" >&2
  exit 1
}

# Where this machine gets Debian from.
# shellcheck disable=SC2016  # apt fills in the names
mirror() {
  apt-get indextargets --format '$(LABEL)|$(REPO_URI)|$(COMPONENT)' 'Created-By: Packages' |
    awk -F '|' '$1 != "Debian-Security" && $2 !~ /security/ && $3 == "main" { print $2; exit }'
}

# Options that make apt forget the lists of the system, so that any suite can be asked for and nothing is changed.
apt_beside_the_system() {
  local own=$cache/apt keys=/usr/share/keyrings/debian-archive-keyring.gpg from
  from=$(mirror)
  [ -n "$from" ] || give_up "apt knows no mirror"
  [ -r "$keys" ] || give_up "$keys is missing: install debian-archive-keyring"
  mkdir -p "$own/lists/partial" "$own/cache/archives/partial"
  echo "deb [signed-by=$keys] $from $suite main" >"$own/sources.list"
  options=(-q -o Dir::Etc::sourcelist="$own/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::State::lists="$own/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$own/cache"
    -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
  # A mirror's copy of testing may be older than its own date allows.
  case $suite in
    bookworm | trixie) ;;
    *) options+=(-o Acquire::Check-Valid-Until=false) ;;
  esac
}

fetch() {
  local work=$cache/.new package
  for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || give_up "$tool is missing: this needs Debian"
  done
  apt_beside_the_system
  rm -rf "$work"
  mkdir -p "$work"
  (cd "$work" && apt-get "${options[@]}" update && apt-get "${options[@]}" download "$@") >"$cache/log" 2>&1 || {
    tail -n 5 "$cache/log" >&2
    give_up "apt could not fetch $* of $suite"
  }
  for package in "$@"; do
    dpkg-deb -x "$work/$package"_*.deb "$work/$package"
    mv "$work/$package" "$cache/$package"
  done
  rm -rf "$work" "$cache/apt"
}

mkdir -p "$cache"
# Tests and `make tools` may ask at the same time.
exec 9>"$cache/lock"
flock 9
missing=()
for package in "$@"; do
  [ -d "$cache/$package" ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] || fetch "${missing[@]}"
for package in "$@"; do
  echo "$cache/$package"
done
