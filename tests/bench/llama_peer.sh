#!/usr/bin/env bash
# The engine's peer: llama.cpp, from the source that the Python package llama-cpp-python carries, built for this
# processor, with our program on its library (peer.c).
#
#   llama_peer.sh DIRECTORY [native|avx2]
#
# Builds in DIRECTORY/build-native or -avx2 (about ten minutes on two cores the first time, a second after that) and
# prints the folder that holds `peer` and `llama-quantize`; the file `version` beside it says what was built. avx2:
# without what AVX-512 brings, for comparisons on older processors. Needs python3 with pip, cmake, ninja, a C++17
# compiler; downloads 77 MB. JOBS: compilers at a time (all processors).
set -euo pipefail

version=0.3.36
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e

here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { sed -n '5,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
directory=$(realpath -m "$1")
case ${2:-native} in
native) flags=(-DGGML_NATIVE=ON) ;;
avx2) flags=(-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON) ;;
*) echo "llama_peer.sh: native or avx2, not '$2'" >&2; exit 2 ;;
esac
package=llama_cpp_python-$version
source=$directory/$package/vendor/llama.cpp
build=$directory/build-${2:-native}
mkdir -p "$directory"

# The package's metadata are prepared even without its dependencies: pip fetches their build backend for itself.
fetch() {
    local scratch
    scratch=$(mktemp -d "$directory/fetch.XXXXXX")
    python3 -m pip download -q --disable-pip-version-check --no-deps --no-binary llama-cpp-python -d "$scratch" \
        "llama-cpp-python==$version" >&2
    printf '%s  %s\n' $sha256 "$scratch/$package.tar.gz" | sha256sum --check --status ||
        { rm -rf "$scratch"; echo "llama_peer.sh: $package.tar.gz is not the file we know (SHA-256)" >&2; exit 1; }
    tar -xzf "$scratch/$package.tar.gz" -C "$scratch"
    rm -rf "${directory:?}/$package"
    mv "$scratch/$package" "$directory/" # whole or not at all
    rm -rf "$scratch"
}

# Without server, web interface and HTTPS: nothing that would fetch anything while it builds.
configure() {
    cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release "${flags[@]}" -DLLAMA_OPENSSL=OFF \
        -DLLAMA_BUILD_TOOLS=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF \
        -DLLAMA_BUILD_APP=OFF -DLLAMA_USE_PREBUILT_UI=OFF
}

logged() { # file command...
    local log=$1
    shift
    "$@" >"$log" 2>&1 || { tail -n 20 "$log" >&2; exit 1; }
}

[ -f "$source/CMakeLists.txt" ] || fetch
[ -f "$build/build.ninja" ] || logged "$build.configure.log" configure
logged "$build.log" nice ninja -C "$build" -j "${JOBS:-$(nproc)}" llama llama-quantize
base=$here/../../src/base
ours=("$here/peer.c" "$here/prompt_file.c" "$base/buffer.c" "$base/clock.c" "$base/error.c")
cc -std=c17 -D_GNU_SOURCE -O2 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
    -Werror -I "$here/../../src" -isystem "$source/include" -isystem "$source/ggml/include" "${ours[@]}" \
    -o "$build/bin/peer" -L "$build/bin" -lllama -lggml -lggml-base -Wl,-rpath,"$build/bin"
printf 'llama-cpp-python %s, llama.cpp in it, %s\n' $version "${flags[*]}" >"$build/version"
echo "$build/bin"
