# A bare Debian in a chroot that reaches the network as this machine does: its mirror, its name servers, its
# certificates, its settings of apt and pip. Sourced by scripts/check-python and scripts/check-arch, which set $me.
# shellcheck shell=bash

say() { printf '%s: %s\n' "$me" "$*" >&2; }
fail() { say "$@"; exit 2; }

[ "$(id -u)" = 0 ] || fail "a chroot needs root"
command -v debootstrap >/dev/null || fail "debootstrap is missing: 'apt-get install debootstrap' adds it"
chroots=${VERGE_CHROOTS:-$HOME/.cache/verge/chroots}
mkdir -p "$chroots"

# Only what reaches the network comes along; everything else is as on a new machine.
settings=(HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive TERM="${TERM:-dumb}"
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
while IFS= read -r -d '' entry; do
  case "${entry%%=*}" in
    PIP_* | SSL_CERT_FILE | SSL_CERT_DIR | REQUESTS_CA_BUNDLE | *_proxy | *_PROXY | OPENBLAS_*) settings+=("$entry") ;;
  esac
done < <(env -0)

foreign=''  # whether the processor in there is another one, which this machine's /sys says nothing of
# In a mount and process namespace of its own, so that nothing stays mounted and nothing goes on running.
inside() {
  local root=$1
  shift
  # shellcheck disable=SC2016
  env -i "${settings[@]}" unshare --mount --pid --fork --kill-child sh -euc '
    root=$1 foreign=$2; shift 2
    mount -t proc proc "$root/proc"
    if [ -z "$foreign" ]; then mount --rbind /sys "$root/sys"; fi
    mount --rbind /dev "$root/dev"
    exec chroot "$root" "$@"' sh "$root" "$foreign" "$@"
}

# bare_system FOLDER SUITE PACKAGES [ARGUMENT OF DEBOOTSTRAP...]: built once, and kept whole or not at all.
bare_system() {
  local folder=$1 suite=$2 packages=$3 mirror made
  shift 3
  [ ! -d "$folder" ] || return 0
  # shellcheck disable=SC2016
  mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "Debian" { print $2; exit }')
  [ -n "$mirror" ] || fail "this machine's sources of apt name no mirror of Debian"
  say "building ${folder##*/} (once)"
  made=$(mktemp -d "$folder.XXXXXX")
  # Each release is built alike; an older debootstrap does not know the names of newer ones.
  if ! unshare --mount --pid --fork --kill-child debootstrap "$@" --variant=minbase --include="$packages" \
    "$suite" "$made" "$mirror" /usr/share/debootstrap/scripts/sid >"$made.log"; then
    tail -n 5 "$made.log" >&2
    rm -rf --one-file-system "$made" "$made.log"
    fail "${folder##*/} could not be built"
  fi
  rm -f "$made.log"
  mv "$made" "$folder"
}

# copy_of FOLDER WORK: a system of one's own to work in, with what is committed (HEAD) in /verge.
copy_of() {
  local config
  cp -a "$1/." "$2"
  chmod 755 "$2"  # others than root live there too
  cp -L /etc/resolv.conf /etc/hosts "$2/etc"
  if [ -d /usr/local/share/ca-certificates ]; then cp -r /usr/local/share/ca-certificates "$2/usr/local/share"; fi
  apt-config dump --format '%F "%v";%n' Acquire | grep -iE '^Acquire::(check-|retries|.*proxy|https::)' \
    >"$2/etc/apt/apt.conf.d/99-as-on-the-host" || true  # where there are none
  for config in /etc/pip.conf /etc/xdg/pip/pip.conf; do
    if [ -e "$config" ]; then install -D -m 644 "$config" "$2$config"; fi
  done
  for config in .pip/pip.conf .config/pip/pip.conf; do
    if [ -e "$HOME/$config" ]; then install -D -m 644 "$HOME/$config" "$2/root/$config"; fi
  done
  inside "$2" update-ca-certificates >/dev/null
  mkdir "$2/verge"
  git archive HEAD | tar -x -C "$2/verge"
}
