#!/usr/bin/env bash
# Fetches the foreign programs that the peer tests talk to, and unpacks them under target/peers/. Nothing is
# installed: the packages come from the machine's own Debian sources through a private apt state, and each
# program gets a root directory of its own with every library it needs. Their packages conflict with one
# another on one system (and would start daemons); unpacked side by side they do neither.
#
#   target/peers/NAME/       root directory of one peer (usr, lib -> usr/lib, etc, var)
#   target/peers/NAME.stamp  what was unpacked there: recipe, then package=version, one to a line
#   target/peers/apt/        package lists and downloaded packages
#
# Run again it does nothing, and needs no network, unless the recipe below has changed or --update is given.
# A peer that cannot be had is an error. There is no skipping: a test that did not run proves nothing.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tools/peers.sh [--update] [--list]

  --update   ask the Debian mirrors for newer versions, and unpack those
  --list     print what is unpacked, and end

Exit codes: 0 all peers are ready, 1 one could not be had, 2 usage or missing tools.
TEXT
}

# One line to a peer: directory name, then the packages. The closure of their dependencies follows by itself.
RECIPES=(
    "postfix postfix"
    "dovecot dovecot-core dovecot-lmtpd dovecot-imapd"
    "opendkim opendkim opendkim-tools"
    "unbound unbound"
    "delv bind9-dnsutils"
    "strace strace"
    "dkimpy python3-dkim python3-dnspython python3-nacl"
)

# Dependencies that only maintainer scripts use. Those never run here, so the roots stay half the size.
# Count this number up when the unpacking itself changes; it makes old roots stale.
RECIPE_VERSION=1
UNUSED='^(adduser|cpio|debconf|dpkg|e2fsprogs|init-system-helpers|libext2fs2|libfile-find-rule-perl|libgdbm.*|libnumber-compare-perl|libperl5.*|libpython3.*-stdlib|libsemanage.*|libsepol.*|libss2|libtext-glob-perl|logsave|lsb-base|media-types|passwd|perl|perl-base|perl-modules-.*|readline-common|sensible-utils|ssl-cert|sysvinit-utils|tar|ucf|usrmerge)$'

say() { printf 'peers: %s\n' "$*"; }
die() {
    printf 'peers: error: %s\n' "$1" >&2
    exit "${2:-1}"
}

MODE=ready
while (($#)); do
    case $1 in
    --update) MODE=update ;;
    --list) MODE=list ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
    shift
done

cd "$(dirname "$0")/.."
# Not CARGO_TARGET_DIR: the tests find the roots beside the sources, wherever cargo builds.
PEERS=$PWD/target/peers
APT=$PEERS/apt
mkdir -p "$APT"

for tool in apt-get dpkg-deb flock awk; do
    command -v "$tool" >/dev/null ||
        die "'$tool' is not here. The peers come from Debian packages: run this on Debian 12 or newer." 2
done
# Two checks started at once would unpack over each other.
exec 9>"$PEERS/.lock"
flock 9

# A private state and cache; no hook of the system's configuration may touch the system; no "installed"
# packages, so that a closure does not depend on what this machine happens to have.
write_apt_conf() {
    mkdir -p "$APT/lists/partial" "$APT/cache/archives/partial" "$APT/debs"
    : >"$APT/status"
    cat >"$APT/apt.conf" <<TEXT
Dir::State "$APT";
Dir::State::status "$APT/status";
Dir::State::lists "${1:-$APT/lists}";
Dir::Cache "$APT/cache";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Get::Assume-Yes "true";
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
TEXT
}

apt() { apt-get -q -c "$APT/apt.conf" "$@"; }

update_lists() {
    write_apt_conf
    say "reading the package lists of this machine's sources"
    if apt update >"$APT/update.log" 2>&1 && compgen -G "$APT/lists/*Packages*" >/dev/null; then
        return
    fi
    compgen -G "/var/lib/apt/lists/*Packages*" >/dev/null || {
        tail -n 5 "$APT/update.log" >&2
        die "apt-get update failed, and the system has no package lists to fall back on (log: target/peers/apt/update.log)"
    }
    say "apt-get update failed (log: target/peers/apt/update.log); going on with the system's lists"
    write_apt_conf /var/lib/apt/lists
}

# Prints the closure of "$@" as package=version.
closure() {
    local out
    out=$(apt --simulate install "$@" 2>&1) || {
        printf '%s\n' "$out" | grep -E '^E:|Depends' >&2 || printf '%s\n' "$out" >&2
        return 1
    }
    # Inst NAME (VERSION ORIGIN [ARCH])
    # A peer written in Python needs what others only have for their maintainer scripts.
    local unused=$UNUSED
    [[ $* == *python3-* ]] && unused=${UNUSED//libpython3.\*-stdlib|/}
    printf '%s\n' "$out" | awk -v unused="$unused" \
        '/^Inst / { v = $3; sub(/^\(/, "", v); if ($2 !~ unused) print $2 "=" v }' | sort
}

recipe_line() { printf 'recipe %s %s\n' "$RECIPE_VERSION" "$*"; }

is_ready() { # NAME PACKAGES…
    [[ -d $PEERS/$1/usr && -f $PEERS/$1.stamp ]] &&
        [[ $(head -n 1 "$PEERS/$1.stamp") == "$(recipe_line "$@")" ]]
}

# The version of the peer's own package, for people.
version_of() { # NAME PACKAGES…
    sed -n "s/^$2=//p" "$PEERS/$1.stamp"
}

unpack() { # NAME PACKAGES…
    local name=$1 wanted package deb dir started=$SECONDS
    shift
    wanted=$(closure "$@") || die "no packages for peer '$name': $*"
    if is_ready "$name" "$@" && [[ $(tail -n +2 "$PEERS/$name.stamp") == "$wanted" ]]; then
        say "$name $(version_of "$name" "$@"): newest already"
        return
    fi
    mapfile -t packages <<<"$wanted"
    # "already have it" is decided by apt, by size and hash.
    (cd "$APT/debs" && apt download "${packages[@]}") >"$APT/download.log" 2>&1 || {
        grep -E '^E:|^Err' "$APT/download.log" >&2 || tail -n 5 "$APT/download.log" >&2
        die "could not download the packages of peer '$name' (log: target/peers/apt/download.log)"
    }

    dir=$PEERS/$name.new
    rm -rf "$dir"
    mkdir -p "$dir"
    # Packages of Debian 12 still ship /bin and /lib; merged they are one tree that can be bind-mounted as /usr.
    for link in bin sbin lib lib32 lib64 libx32; do
        mkdir -p "$dir/usr/$link"
        ln -s "usr/$link" "$dir/$link"
    done
    for package in "${packages[@]}"; do
        deb=$(find_deb "$package") || die "apt downloaded no file for $package"
        dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$dir" ||
            die "could not unpack $deb"
    done
    rm -rf "$dir/usr/share/doc" "$dir/usr/share/man" "$dir/usr/share/locale" "${PEERS:?}/$name"
    mv "$dir" "$PEERS/$name"
    {
        recipe_line "$name" "$@"
        printf '%s\n' "$wanted"
    } >"$PEERS/$name.stamp"
    say "$name $(version_of "$name" "$@"): unpacked, ${#packages[@]} packages, $((SECONDS - started)) s"
}

find_deb() { # PACKAGE=VERSION; apt writes a colon in a version as %3a
    local name=${1%%=*} version=${1#*=} file
    for file in "$APT/debs/${name}_${version//:/%3a}"_*.deb; do
        [[ -f $file ]] && printf '%s\n' "$file" && return
    done
    return 1
}

if [[ $MODE == list ]]; then
    for recipe in "${RECIPES[@]}"; do
        read -ra words <<<"$recipe"
        if is_ready "${words[@]}"; then
            say "${words[0]} $(version_of "${words[@]}")"
        else
            say "${words[0]}: not unpacked"
        fi
    done
    exit 0
fi

missing=()
for recipe in "${RECIPES[@]}"; do
    read -ra words <<<"$recipe"
    if [[ $MODE == ready ]] && is_ready "${words[@]}"; then
        say "${words[0]} $(version_of "${words[@]}"): ready"
    else
        missing+=("$recipe")
    fi
done
((${#missing[@]})) || exit 0

update_lists
for recipe in "${missing[@]}"; do
    read -ra words <<<"$recipe"
    unpack "${words[@]}"
done
