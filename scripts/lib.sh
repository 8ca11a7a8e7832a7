# Shared by the scripts of this folder: installing what is missing, saying what is done.
# Sourced, not run.

say() { printf '\n== %s\n' "$*"; }

# as_root COMMAND…: runs it as root, by sudo where that is needed.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# need_packages PROGRAM=PACKAGE…: installs the Debian packages whose programs are missing.
need_packages() {
    local missing=() pair
    for pair in "$@"; do
        # Some of the programs are in sbin, which an ordinary user's PATH may lack.
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || {
        echo "please install: ${missing[*]}" >&2
        return 1
    }
    say "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
