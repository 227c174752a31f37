#!/usr/bin/env bash
# Fetches packages of a Debian suite and unpacks them beside the system, without installing them: prints one directory
# per package. They come from the mirror that apt is configured with and are checked with Debian's keys. A name may be a
# pattern of the shell: of the packages that fit it, the one with the highest version in its name is taken.
#
#   packages.sh SUITE PACKAGE...
#   packages.sh SUITE --source      prints the suite's line for apt instead
set -euo pipefail

[ $# -ge 2 ] || {
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 64
}
suite=$1
shift
cache=${TRIMTAB_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/trimtab-lab}/packages/$suite

give_up() {
  echo "packages.sh: $*" >&2
  exit 1
}

# Runs a command that talks only when it fails.
quietly() {
  "$@" >"$cache/log" 2>&1 || {
    tail -n 5 "$cache/log" >&2
    give_up "failed: $*"
  }
}

# Where this machine gets Debian from. A machine whose lists were cleared is asked with lists of our own.
mirror() {
  local lists=$cache/system-lists from
  from=$(known_mirror)
  if [ -z "$from" ]; then
    mkdir -p "$lists/partial"
    quietly apt-get -q -o Dir::State::lists="$lists" -o APT::Sandbox::User=root -o Acquire::Languages=none update
    from=$(known_mirror -o Dir::State::lists="$lists")
    rm -rf "$lists"
  fi
  echo "$from"
}

# shellcheck disable=SC2016  # apt fills in the names
known_mirror() {
  apt-get "$@" indextargets --format '$(LABEL)|$(REPO_URI)|$(COMPONENT)' 'Created-By: Packages' |
    awk -F '|' '$1 != "Debian-Security" && $2 !~ /security/ && $3 == "main" && !found++ { print $2 }'
}

source_line() {
  local keys=/usr/share/keyrings/debian-archive-keyring.gpg from
  from=$(mirror)
  [ -n "$from" ] || give_up "apt knows no mirror"
  [ -r "$keys" ] || give_up "$keys is missing: install debian-archive-keyring"
  echo "deb [signed-by=$keys] $from $suite main"
}

# Options that make apt forget the lists of the system, so that any suite can be asked for and nothing is changed.
apt_beside_the_system() {
  local own=$cache/apt
  mkdir -p "$own/lists/partial" "$own/cache/archives/partial"
  source_line >"$own/sources.list"
  options=(-q -o Dir::Etc::sourcelist="$own/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::State::lists="$own/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$own/cache"
    -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
  # A mirror's copy of testing may be older than its own date allows.
  case $suite in
    bookworm | trixie) ;;
    *) options+=(-o Acquire::Check-Valid-Until=false) ;;
  esac
}

# The directory of a name or pattern.
place() {
  echo "$cache/${1//[^a-z0-9.+-]/_}"
}

# The package that is meant by a name or pattern.
resolve() {
  local candidate best=''
  case $1 in
    *[*?[]*) ;;
    *)
      echo "$1"
      return
      ;;
  esac
  while read -r candidate; do
    # shellcheck disable=SC2254  # a pattern is what is wanted
    case $candidate in
      $1) best=$candidate ;;
    esac
  done < <(apt-cache "${options[@]}" pkgnames | sort -V)
  [ -n "$best" ] || give_up "$suite has no package $1"
  echo "$best"
}

fetch() {
  local work=$cache/.new asked package
  apt_beside_the_system
  rm -rf "$work"
  mkdir -p "$work"
  quietly apt-get "${options[@]}" update
  for asked in "$@"; do
    package=$(resolve "$asked")
    (cd "$work" && quietly apt-get "${options[@]}" download "$package")
    dpkg-deb -x "$work/$package"_*.deb "$work/tree"
    mv "$work/tree" "$(place "$asked")"
  done
  rm -rf "$work" "$cache/apt"
}

for tool in apt-get dpkg-deb; do
  command -v "$tool" >/dev/null || give_up "$tool is missing: this needs Debian"
done
[ "$1" != --source ] || {
  source_line
  exit 0
}
mkdir -p "$cache"
# Tests and `make tools` may ask at the same time.
exec 9>"$cache/lock"
flock 9
missing=()
for package in "$@"; do
  [ -d "$(place "$package")" ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] || fetch "${missing[@]}"
for package in "$@"; do
  place "$package"
done
