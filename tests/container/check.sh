#!/usr/bin/env bash
# Build the image, train and classify in it, stop it, start it, put a new container in its place: is all still there?
#
#   tests/container/check.sh
#
# The container runs as compose.yaml runs it: not as root, read-only, without capabilities, with one volume. Needs
# docker, or buildah and podman, and a python3; takes some minutes and, with the ordinary build of torch, 20 GB of disk
# while it builds. What it measured stands in the last lines. What it started is removed at the end; the image stays.
#
#   WARA_BUILD_TOOL     docker build; else buildah bud --format docker (without docker's format no HEALTHCHECK)
#   WARA_RUN_TOOL       docker; else podman. Options that go before "run" belong here
#   WARA_BUILD_OPTIONS  further options of the build: --secret id=pip.conf,src=..., --build-arg TORCH_INDEX_URL=...
#   WARA_RUN_OPTIONS    further options of the run: --gpus all, --network=host, ...
#   WARA_IMAGE          wara-studio:check
#   WARA_CHECK_DEVICE   cpu; or cuda
#   WARA_CHECK_BUILD    yes; no takes the image as it is
#   WARA_CHECK_PORT     17860, on loopback
#   WARA_CHECK_SECONDS  300: how long the server may take to answer, and the training to end
# All options are split at spaces.
set -euo pipefail
cd "$(dirname "$0")/../.."

have() { command -v "$1" >/dev/null; }
now() { python3 -c 'import time; print(time.time())'; }
since() { python3 -c 'import sys, time; print(f"{time.time() - float(sys.argv[1]):.1f}")' "$1"; }
say() { printf '%s\n' "$*"; }
fail() {
    say "FAILED: $*" >&2
    exit 1
}

if have docker; then
    read -r -a build <<<"${WARA_BUILD_TOOL:-docker build}"
    read -r -a tool <<<"${WARA_RUN_TOOL:-docker}"
else
    read -r -a build <<<"${WARA_BUILD_TOOL:-buildah bud --format docker}"
    read -r -a tool <<<"${WARA_RUN_TOOL:-podman}"
fi
for program in "${build[0]}" "${tool[0]}" python3; do
    have "$program" || fail "$program is not installed. Install docker, or buildah and podman; and python3."
done
read -r -a build_options <<<"${WARA_BUILD_OPTIONS:-}"
read -r -a run_options <<<"${WARA_RUN_OPTIONS:-}"
image=${WARA_IMAGE:-wara-studio:check}
device=${WARA_CHECK_DEVICE:-cpu}
port=${WARA_CHECK_PORT:-17860}
limit=${WARA_CHECK_SECONDS:-300}
address=http://127.0.0.1:$port
name=wara-check-$$
work=$(mktemp -d)

clean_up() {
    status=$?
    if [ "$status" -ne 0 ]; then
        "${tool[@]}" logs --tail 40 "$name" >&2 2>/dev/null || true
    fi
    "${tool[@]}" rm -f "$name" >/dev/null 2>&1 || true
    "${tool[@]}" volume rm "$name" >/dev/null 2>&1 || true
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT

run() {
    "${tool[@]}" run --detach --name "$name" --read-only --tmpfs /tmp:size=256m --shm-size 1g --cap-drop ALL \
        --security-opt no-new-privileges --publish "127.0.0.1:$port:$port" --env "WARA_PORT=$port" \
        --env WARA_ALLOWED_HOSTS=localhost --env WARA_PUBLISHED_ON_LOOPBACK=true --volume "$name:/data" \
        ${run_options[@]+"${run_options[@]}"} "$image" >/dev/null
}
inside() { "${tool[@]}" exec "$name" "$@"; }
drive() { python3 tests/container/drive.py "$@"; }
until_healthy() { drive wait "$address" --since "$1" --limit "$limit"; }
stop() {
    local begun
    begun=$(now)
    "${tool[@]}" stop --time 30 "$name" >/dev/null
    since "$begun"
}

build_seconds="not built"
if [ "${WARA_CHECK_BUILD:-yes}" != no ]; then
    say "Building $image ..."
    begun=$(now)
    "${build[@]}" --build-arg "DEVICE=$device" ${build_options[@]+"${build_options[@]}"} --tag "$image" . \
        >"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log" >&2; fail "the image cannot be built"; }
    build_seconds="$(since "$begun") s"
fi
bytes=$("${tool[@]}" image inspect --format '{{.Size}}' "$image")

say "Drawing images with the image's own generator ..."
mkdir "$work/images"
"${tool[@]}" run --rm ${run_options[@]+"${run_options[@]}"} "$image" sh -c \
    'python -m wara.demo /tmp/images --images 36 >&2 && tar -C /tmp/images -cf - .' | tar -C "$work/images" -xf -

say "Starting ..."
begun=$(now)
run
first=$(until_healthy "$begun")
"${tool[@]}" image inspect "$image" | drive health-command >"$work/health"
mapfile -d '' -t health <"$work/health"
inside "${health[@]}" || fail "the image's own HEALTHCHECK says that the server is not well"
[ "$(inside id -u)" = 10001 ] || fail "it does not run as user 10001"
if inside touch /opt/wara-studio/probe 2>/dev/null; then fail "the root file system can be written to"; fi
[ "$(inside ls /opt/wara-studio | tr -s '\n' ' ')" = "LICENSE app assets backend wara " ] ||
    fail "/opt/wara-studio holds something else than LICENSE, app, assets, backend and wara"
if [ -d assets/backbones ]; then
    for file in assets/backbones/*; do
        inside test -s "/opt/wara-studio/$file" || fail "$file is not in the image"
    done
fi

say "Training and classifying ..."
drive work "$address" "$work" --limit "$limit"

say "Stopping and starting ..."
stopped=$(stop)
begun=$(now)
"${tool[@]}" start "$name" >/dev/null
again=$(until_healthy "$begun")
drive still-there "$address" "$work"

say "Putting a new container in its place ..."
stop >/dev/null
"${tool[@]}" rm "$name" >/dev/null
begun=$(now)
run
replaced=$(until_healthy "$begun")
drive still-there "$address" "$work"

say ""
say "image size           $(python3 -c 'import sys; print(f"{int(sys.argv[1]) / 1e9:.2f} GB")' "$bytes")"
say "build time           $build_seconds"
say "seconds to healthy   $first s; started again $again s; a new container on the same volume $replaced s"
say "seconds to stop      $stopped s"
