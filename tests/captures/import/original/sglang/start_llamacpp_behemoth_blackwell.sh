#!/bin/bash
LLAMACPP_DIR="${LLAMACPP_DIR:-/home/user/llama.cpp}"
MODEL_PATH="${MODEL_PATH:-/home/user/models/gguf/Behemoth-R1-123B-IQ4_NL.gguf}"

cd "$LLAMACPP_DIR/build"
exec ./bin/llama-server \
    -m "$MODEL_PATH" \
    -ngl 999 \
    --port 8085 \
    --host 0.0.0.0 \
    -c 4096 \
    --parallel 1
