# shellcheck shell=bash
# Sourced: installs Debian packages where that is possible, without starting the services they bring.

# as_root COMMAND…: runs it as root, or fails without asking for a password.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    sudo -n "$@"
  fi
}

# Can packages be installed here without a question?
can_install() {
  command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

# install_packages PACKAGE…: installs them, one caller at a time. A package that brings a service
# (rabbitmq-server does) would start it, and it would take the well-known ports: a policy that forbids
# that is put in place for the time of the installation, unless the machine has a policy of its own.
install_packages() {
  can_install || return 1
  (
    exec 9>"${TMPDIR:-/tmp}/tidegate-install.lock"
    flock 9
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
      policy=
    else
      printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
      trap 'as_root rm -f "$policy"' EXIT
      trap 'exit 130' INT
      trap 'exit 143' TERM
      as_root chmod 755 "$policy"
    fi
    get=(as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0)
    log=$(mktemp)
    if { "${get[@]}" update && "${get[@]}" install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
      rm -f "$log"
    else
      tail -n 20 "$log" >&2
      rm -f "$log"
      exit 1
    fi
  ) </dev/null
}
