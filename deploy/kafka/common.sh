#!/usr/bin/env bash
# What `start` and `tool` share: where Java and the jars are. Read by both, runs nothing by itself.

say() { printf '==> %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
libs=${KAFKA_LIBS:-$here/libs}
java=${JAVA_HOME:+$JAVA_HOME/bin/}java

need_jars() {
    command -v "$java" >/dev/null ||
        fail "Java 17 or later is needed and $java is not here: apt-get install default-jre-headless (or run tests/run, which does)"
    compgen -G "$libs/kafka_*.jar" >/dev/null ||
        fail "Kafka's jars are not in $libs: run deploy/kafka/fetch (tests/run does)"
}

# Waits for its end. Errors come on standard error, answers on standard output.
run_java() { # run_java CLASS [ARGUMENT...]
    "$java" -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$libs/*" \
        -Dlog4j2.configurationFile="$here/log4j2-tools.properties" "$@"
}

# Becomes it.
exec_java() { # exec_java LOG_SETTINGS [JAVA OPTION...] CLASS [ARGUMENT...]
    local log_settings=$1
    shift
    # Both variables are lists of words, as everywhere around Kafka.
    # shellcheck disable=SC2086
    exec "$java" ${KAFKA_HEAP_OPTS:--Xmx512m} ${KAFKA_OPTS:-} -cp "$libs/*" -Djava.awt.headless=true \
        -Dlog4j2.configurationFile="$log_settings" "$@"
}
