#!/bin/sh
# Builds llama.cpp's server, quantizers and converter, and the Python binding, from the source package of
# llama-cpp-python, which carries a whole llama.cpp tree: build.sh SOURCE.tar.gz PREFIX [JOBS]
#
#   PREFIX/bin      llama-server, llama-quantize, llama-imatrix, llama-perplexity, llama-tokenize and their libraries
#   PREFIX/convert  convert_hf_to_gguf.py, convert_lora_to_gguf.py and what they import
#   PREFIX/python   llama_cpp
#
# One build serves all x86-64 processors: the arithmetic is compiled for several of them (libggml-cpu-*.so), and the
# best that the processor can run is loaded at start.
set -eu
source=$(realpath "$1") prefix=$2 jobs=${3:-$(nproc)}

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
tar --extract --gzip --file "$source" --directory "$tree" --strip-components=1
llama=$tree/vendor/llama.cpp

# Of fourteen variants those that are both common and much faster than the next lower one.
rare="sse42 sandybridge ivybridge piledriver cannonlake cooperlake"
# AMX needs a tile configuration in each thread. GCC before 14 drops most of it as dead stores, so that the first tile
# instruction is illegal; and ggml loads it once a thread, while PyTorch, in the same process, releases it after use.
# Such a processor runs zen4's variant, which is the same without AMX.
amx="sapphirerapids"
for variant in $rare $amx; do
    sed -i "/ggml_add_cpu_backend_variant($variant /d" "$llama/ggml/src/CMakeLists.txt"
done

cmake -S "$llama" -B "$tree/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
    -DGGML_NATIVE=OFF -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON \
    -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON -DCMAKE_INSTALL_RPATH='$ORIGIN' \
    -DLLAMA_BUILD_NUMBER=0 -DLLAMA_BUILD_COMMIT="$(basename "$source" .tar.gz)" \
    -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF
tools="llama-server llama-quantize llama-imatrix llama-perplexity llama-tokenize"
# shellcheck disable=SC2086
cmake --build "$tree/build" --parallel "$jobs" --target $tools

mkdir -p "$prefix/bin" "$prefix/convert" "$prefix/python"
cp "$llama/LICENSE" "$prefix"
basename "$source" .tar.gz > "$prefix/VERSION"
for tool in $tools; do cp "$tree/build/bin/$tool" "$prefix/bin"; done
cp -P "$tree"/build/bin/*.so* "$prefix/bin"
strip --strip-unneeded "$prefix"/bin/*
cp -R "$llama/convert_hf_to_gguf.py" "$llama/convert_lora_to_gguf.py" "$llama/conversion" "$llama/gguf-py" "$prefix/convert"
rm -rf "$prefix"/convert/gguf-py/tests "$prefix"/convert/gguf-py/examples
cp -R "$tree/llama_cpp" "$prefix/python"
rm -rf "$prefix/python/llama_cpp/server"
ln -s ../../bin "$prefix/python/llama_cpp/lib"
# The binding knows of no variants: without this it finds no processor to run on.
cat >> "$prefix/python/llama_cpp/__init__.py" <<'PYTHON'

from ._ggml import libggml, libggml_base_path

libggml.ggml_backend_load_all_from_path(str(libggml_base_path.resolve()).encode())
PYTHON
chmod -R a+rX "$prefix"
