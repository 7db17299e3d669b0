#!/usr/bin/env bash
# tools/onnxruntime_header.sh DIR: ONNX Runtime's C header out of Debian 13's libonnxruntime-dev, for
# older Debian. apt works in a folder of its own; the system is not changed. Prints the header's
# folder; 77 where it can't be had.
set -euo pipefail
mkdir -p "$1"
dir=$(cd "$1" && pwd)
sources=/etc/apt/sources.list.d/debian.sources
[ -f "$sources" ] || { echo "no $sources" >&2; exit 77; }
mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$dir/apt/parts"
# The first of its entries: the archive itself, not its updates.
sed '/^$/q' "$sources" | sed 's/^Suites:.*/Suites: trixie/' > "$dir/apt/parts/trixie.sources"
options=(-qq -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$dir/apt/parts"
    -o "Dir::State::Lists=$dir/apt/lists" -o "Dir::Cache=$dir/apt/cache" -o "APT::Sandbox::User=root")
apt-get "${options[@]}" update >&2 || exit 77
(cd "$dir" && apt-get "${options[@]}" download libonnxruntime-dev >&2) || exit 77
dpkg-deb -x "$dir"/libonnxruntime-dev_*.deb "$dir"
rm -rf "$dir/apt"
echo "$dir/usr/include/onnxruntime"
