#!/usr/bin/env bash
# Does xrayedge work on a Raspberry Pi? Asks an emulated one, here, without root.
#
#     tools/emulate_pi.sh [--model NAME] [--python PYTHON] [--bench]
#
# Builds this project's wheel, installs it and its aarch64 dependencies offline in a Debian arm64
# root (the system of Raspberry Pi OS Bookworm, Python 3.11), and runs on an emulated Cortex-A76
# (Pi 5) and Cortex-A72 (Pi 4): the import, `xrayedge doctor` and `xrayedge screen` with both
# engines, whose scores must be those of this machine; `xrayedge calibrate` of 30 images, and how long
# it takes; with --bench one round of the bench too. Emulation is several times slower than a Pi.
#
# PYTHON (default python3) has xrayedge[dicom,onnx], pydicom-data and build. The root and the wheels
# are kept in ${XDG_CACHE_HOME:-~/.cache}/xrayedge: later runs need no network.
# Exit status: 0 all as here, 1 not so, 77 skipped, for the reason given, 2 wrong usage.
set -euo pipefail
project=$(cd "$(dirname "$0")/.." && pwd)
model=vgg16-edge python=python3 bench=
while [ $# -gt 0 ]; do
    case $1 in
        --model) model=${2:?--model wants a name}; shift ;;
        --python) python=${2:?--python wants a command}; shift ;;
        --bench) bench=yes ;;
        *) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift
done
cache=${XDG_CACHE_HOME:-$HOME/.cache}/xrayedge
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
step() { echo "emulate_pi: $*"; }
skip() { echo "emulate_pi: skipped: $*"; exit 77; }
fail() { echo "emulate_pi: FAILED: $*"; exit 1; }

# 1. Tools. proot stands in for chroot and binfmt_misc, which need root and the kernel's help.
export PATH=$PATH:/usr/sbin:/sbin # where debootstrap is
missing() { # status 0 if a tool is
    for tool in qemu-aarch64-static debootstrap proot dpkg-deb; do
        command -v "$tool" >/dev/null || return 0
    done
    return 1
}
if missing; then
    packages='debootstrap proot qemu-user-static'
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || skip "install $packages first"
    step "installing $packages"
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends $packages; } \
        >"$work/apt.log" 2>&1 || skip "apt-get can't install $packages: $(tail -n 1 "$work/apt.log")"
    ! missing || skip "$packages: not all are in PATH"
fi
qemu=$(command -v qemu-aarch64-static)

# 2. The root. Packages are unpacked and not configured: Python wants no more.
root=$cache/bookworm-arm64
if [ ! -d "$root" ]; then
    step "unpacking Debian arm64 into $root (once)"
    mkdir -p "$cache"
    rm -rf "$root.part"
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(proot -0)
    "${as_root[@]}" debootstrap --foreign --arch=arm64 \
        --variant=minbase --include=python3,python3-venv \
        bookworm "$root.part" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} \
        >"$work/debootstrap.log" 2>&1 \
        || skip "debootstrap failed: $(tail -n 1 "$work/debootstrap.log")"
    for package in "$root.part"/var/cache/apt/archives/*.deb; do
        dpkg-deb -x "$package" "$root.part"
    done
    rm -f "$root.part"/var/cache/apt/archives/*.deb
    # The host's /proc and /sys stay out: engines that read the host's processor there crash.
    mkdir -p "$root.part/proc" "$root.part/sys/devices/system/cpu"
    for list in possible present online; do
        echo 0-1 >"$root.part/sys/devices/system/cpu/$list"
    done
    mv "$root.part" "$root"
fi
cpuinfo() { # implementer's part number, features
    for core in 0 1; do
        printf 'processor\t: %s\nFeatures\t: %s\nCPU implementer\t: 0x41\n' "$core" "$2"
        printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 1\n\n' "$1"
    done
}
common='fp asimd evtstrm aes pmull sha1 sha2 crc32'
cpuinfo 0xd08 "$common cpuid" >"$work/cortex-a72"
cpuinfo 0xd0b "$common atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp" >"$work/cortex-a76"
# $work has one path inside and outside: proot 5.1 does not translate faccessat2's.
emulated() { # processor, command
    local cpu=$1
    shift
    env -i PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8 QEMU_CPU="$cpu" proot -q "$qemu" \
        -r "$root" -b "$work/$cpu:/proc/cpuinfo" -b "$wheels:/wheels" -b "$work" -w / "$@"
}

# 3. The wheel and its aarch64 dependencies: those of Debian 12's glibc 2.36 and Python 3.11.
step 'building the wheel'
"$python" -m build --outdir "$work/dist" "$project" >"$work/build.log" 2>&1 \
    || skip "the wheel can't be built: $(tail -n 1 "$work/build.log")"
wheel=$(echo "$work"/dist/xrayedge-*.whl)
key=$(sha256sum "$project/pyproject.toml" | cut -c 1-12)
wheels=$cache/wheels-aarch64-$key
if [ ! -d "$wheels" ]; then
    step "fetching aarch64 wheels into $wheels"
    platforms=(--platform manylinux2014_aarch64)
    for minor in $(seq 17 36); do platforms+=(--platform "manylinux_2_${minor}_aarch64"); done
    rm -rf "$wheels.part"
    "$python" -m pip download --quiet --disable-pip-version-check --only-binary=:all: \
        "${platforms[@]}" --python-version 3.11 --dest "$wheels.part" \
        "$wheel[dicom,onnx]" pydicom-data >"$work/pip.log" 2>&1 \
        || { cat "$work/pip.log"; skip 'the aarch64 wheels were not to be had'; }
    rm "$wheels.part"/xrayedge-*.whl
    rm -rf "$cache"/wheels-aarch64-*[0-9a-f] "$root/opt/xrayedge"
    mv "$wheels.part" "$wheels"
fi
emulated cortex-a76 python3 -c pass || skip "proot can't run here; does the system allow ptrace?"
step 'installing the wheel in the root, offline'
bin=/opt/xrayedge/bin
[ -d "$root/opt/xrayedge" ] || emulated cortex-a76 python3 -m venv --without-pip /opt/xrayedge
pip=$(echo "$root"/usr/share/python-wheels/pip-*.whl)
install=("$bin/python" "${pip#"$root"}/pip" install --quiet --no-compile --no-index
    --find-links /wheels --no-warn-script-location)
emulated cortex-a76 "${install[@]}" --force-reinstall --no-deps "$wheel"
emulated cortex-a76 "${install[@]}" 'xrayedge[dicom,onnx]' pydicom-data

# 4. On each processor: the import, the doctor, and the scores of this machine.
images=() # a chest and a leg
for name in RG1_UNCR.dcm RG3_UNCR.dcm; do
    cp "$("$python" -c "from pydicom.data import get_testdata_file as f; print(f('$name'))")" "$work"
    images+=("$work/$name")
done
screen() { # file for the results, engine, command of xrayedge
    local results=$1 engine=$2
    shift 2
    "$@" screen "${images[@]}" --model "$model" --engine "$engine" --json \
        >"$results" 2>"$work/screen.log" \
        || [ $? -eq 1 ] || { cat "$work/screen.log"; fail "$* screen --engine $engine"; }
}
for engine in litert onnx; do
    screen "$work/here-$engine.jsonl" "$engine" "$python" -m xrayedge
done
for cpu in cortex-a76 cortex-a72; do
    step "$cpu: import and doctor"
    emulated "$cpu" $bin/python -c 'import xrayedge' || fail "$cpu: import xrayedge"
    emulated "$cpu" $bin/xrayedge doctor --model "$model" || fail "$cpu: xrayedge doctor"
    for engine in litert onnx; do
        step "$cpu: screen with $engine"
        screen "$work/$cpu-$engine.jsonl" "$engine" emulated "$cpu" $bin/xrayedge
        "$python" "$project/tools/same_scores.py" \
            "$work/here-$engine.jsonl" "$work/$cpu-$engine.jsonl" || fail "$cpu: other scores"
    done
done
step 'cortex-a76: calibrate with 30 images'
# One chest in 30 exposures: copies would count once.
mkdir "$work/healthy"
"$python" - "${images[0]}" "$work/healthy" <<'END'
import sys

import cv2
import numpy as np

from xrayedge import read

pixels = read(sys.argv[1]).pixels
for number in range(30):
    levels = np.rint(255.0 * np.linspace(0.0, 1.0, 256) ** (0.85 + 0.01 * number))
    cv2.imwrite(f"{sys.argv[2]}/{number}.png", cv2.LUT(pixels, levels.astype(np.uint8)))
END
TIMEFORMAT='emulate_pi: calibrated in %R s, of which %U s of processor time'
time emulated cortex-a76 $bin/xrayedge calibrate --healthy "$work/healthy" --model "$model" \
    --out "$work/site.json" || fail 'xrayedge calibrate'
if [ -n "$bench" ]; then
    step 'cortex-a76: one round of the bench'
    emulated cortex-a76 $bin/xrayedge bench --model "$model" --precision int8 --rounds 1 \
        --warmup 0 || fail 'xrayedge bench'
fi
step 'all as on this machine'
