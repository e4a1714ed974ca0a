#!/usr/bin/env bash
# What `deploy/demo` and `tests/run` share: finding what the project needs, and installing what is missing
# with Debian's package manager, as root or through sudo. Says what it does. Safe to run any number of times.

say() { printf '==> %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

RUST_VERSION=1.95 # as rust-version in Cargo.toml
JAVA_VERSION=17   # what Kafka 4's broker asks for

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "'$*' needs root: run this script as root, or install sudo"
    fi
}

apt_updated=
apt_install() {
    command -v apt-get >/dev/null ||
        fail "cannot install $*: no apt-get here. Install a C and C++ compiler, make, pkg-config, OpenSSL's headers, Rust $RUST_VERSION and PostgreSQL 14 or later (for the tests also Java 17 and Maven), and run this again"
    say "installing $* (apt-get)"
    if [ -z "$apt_updated" ]; then
        as_root apt-get update -qq
        apt_updated=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# The newest version that apt-get could install, empty if it has no such package.
apt_version() {
    apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *\([0-9.]*\).*/\1/p'
}

at_least() { # at_least HAVE WANT
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

cargo_is_new_enough() {
    command -v cargo >/dev/null && command -v rustc >/dev/null &&
        at_least "$(rustc --version 2>/dev/null | awk '{print $2}')" "$RUST_VERSION"
}

# Puts a cargo that is new enough on PATH, if there is one.
find_cargo() {
    local home
    cargo_is_new_enough && return 0
    for home in "${CARGO_HOME:-$HOME/.cargo}/bin" /usr/local/cargo/bin; do
        if [ -x "$home/cargo" ]; then
            PATH="$home:$PATH"
            export PATH
            cargo_is_new_enough && return 0
        fi
    done
    return 1
}

need_compiler() {
    if ! command -v cc >/dev/null || ! command -v c++ >/dev/null || ! command -v make >/dev/null; then
        apt_install gcc g++ libc6-dev make
    fi
}

# librdkafka, compiled in, is linked against the system's OpenSSL.
need_openssl() {
    pkg-config --exists openssl 2>/dev/null || apt_install libssl-dev pkg-config
}

need_rust() {
    # cargo fetches over TLS.
    [ -e /etc/ssl/certs/ca-certificates.crt ] || apt_install ca-certificates
    find_cargo && return 0
    if [ -z "$apt_updated" ] && command -v apt-get >/dev/null; then
        as_root apt-get update -qq
        apt_updated=yes
    fi
    # Debian carries a current Rust for its browsers beside the one of its release.
    if at_least "$(apt_version rustc-web)" "$RUST_VERSION"; then
        apt_install rustc-web cargo-web
    elif at_least "$(apt_version rustc)" "$RUST_VERSION"; then
        apt_install rustc cargo
    elif [ -n "$(apt_version rustup)" ]; then
        apt_install rustup
        say "installing Rust (rustup)"
        rustup default stable
    fi
    find_cargo || fail "Rust $RUST_VERSION or later is needed and this system's packages do not have it: install it with rustup and run this again"
}

need_clippy_and_rustfmt() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return 0
    if command -v rustup >/dev/null; then
        rustup component add clippy rustfmt
    elif [ -n "$(apt_version rust-web-clippy)" ]; then
        apt_install rust-web-clippy rustfmt-web
    fi
}

need_postgres() {
    local folder
    for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin) ${PATH//:/ }; do
        [ -x "$folder/initdb" ] && return 0
    done
    # No server of the system's is wanted: Suanpan starts one of its own.
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        apt_install postgresql-common
        as_root sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    fi
    apt_install postgresql
}

java_is_new_enough() {
    local java=${JAVA_HOME:+$JAVA_HOME/bin/}java
    command -v "$java" >/dev/null &&
        at_least "$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9.]*\).*/\1/p')" "$JAVA_VERSION"
}

need_java() {
    java_is_new_enough && return 0
    apt_install default-jre-headless
    java_is_new_enough ||
        fail "Java $JAVA_VERSION or later is needed to run Kafka and this system's default-jre-headless is older: install one, set JAVA_HOME to it, and run this again"
}

need_maven() {
    command -v mvn >/dev/null || apt_install maven
}

# The broker that the tests start, and that anybody may start with deploy/kafka/start.
need_kafka() {
    local folder
    folder=$(dirname "${BASH_SOURCE[0]}")/kafka
    need_java
    "$folder/fetch" --check || need_maven
    "$folder/fetch"
}
