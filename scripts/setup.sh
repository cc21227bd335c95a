#!/usr/bin/env bash
# Installs the system packages that are missing, on Debian and its kin; elsewhere says what to install.
# With everything there it only looks, and asks no network.
set -euo pipefail

# What `rust-version` in Cargo.toml says.
rust_min=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")

have() { command -v "$1" >/dev/null 2>&1; }

# bindgen loads libclang when RocksDB is built, and libclang needs its own headers.
have_libclang() {
  compgen -G "${LIBCLANG_PATH:-/nonexistent}/libclang*.so*" >/dev/null && return
  local library
  for library in /usr/lib/llvm*/lib /usr/lib/*-linux-gnu /usr/lib /usr/lib64 /usr/local/lib; do
    # libclang-cpp is another library.
    if compgen -G "$library/libclang.so*" >/dev/null || compgen -G "$library/libclang-[0-9]*.so*" >/dev/null; then
      compgen -G "/usr/lib/llvm*/lib/clang/*/include/stddef.h" >/dev/null && return
      compgen -G "/usr/lib*/clang/*/include/stddef.h" >/dev/null && return
      compgen -G "/usr/local/lib/clang/*/include/stddef.h" >/dev/null && return
    fi
  done
  return 1
}

# The smaller packages suffice where we know their names; libclang-dev brings 300 MB more.
libclang_packages() {
  local ID='' VERSION_ID=''
  [ -r /etc/os-release ] && . /etc/os-release
  case "$ID $VERSION_ID" in
    "debian 12") echo libclang1-14 libclang-common-14-dev ;;
    *) echo libclang-dev ;;
  esac
}

# A test sets the server's clock two years ahead.
have_libfaketime() {
  local library
  for library in /usr/lib/*/faketime /usr/lib/faketime /usr/lib64/faketime /usr/local/lib/faketime; do
    [ -e "$library/libfaketimeMT.so.1" ] && return
  done
  return 1
}

packages=()
needs=()
need() { # what a person calls it, then the packages
  needs+=("$1")
  shift
  packages+=("$@")
}

have c++ || have g++ || have clang++ || need "a C++ compiler" g++
have_libclang || need "libclang, with its headers" $(libclang_packages)
have npm || need npm npm
have python3 || need "Python 3" python3
{ have python3 && python3 -m pip --version >/dev/null 2>&1; } || need "pip for python3" python3-pip
have_libfaketime || need libfaketime libfaketime

if [ ${#needs[@]} -gt 0 ]; then
  printf 'missing: %s\n' "${needs[@]}"
  if ! have apt-get; then
    echo "There is no apt-get here. Install these by hand and run this again; Debian's names: ${packages[*]}" >&2
    exit 1
  fi
  as_root=()
  if [ "$(id -u)" != 0 ]; then
    if ! have sudo; then
      echo "As root: apt-get install --no-install-recommends ${packages[*]}" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  echo "installing: ${packages[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

# Last, since no package of Debian's is new enough: the toolchain is the newcomer's to bring.
if ! have cargo; then
  echo "Rust is missing: install a toolchain of at least $rust_min with rustup" >&2
  exit 1
fi
rust=$(rustc --version | cut -d' ' -f2)
if [ "$(printf '%s\n' "$rust_min" "$rust" | sort -V | head -n 1)" != "$rust_min" ]; then
  echo "Rust is too old: expected at least $rust_min, found $rust; \`rustup update stable\` brings a newer one" >&2
  exit 1
fi
