#!/bin/bash
cd /home/user/llama.cpp/build
exec ./bin/llama-server \
    -m /home/user/models/gguf/Magnum-Diamond-123B-IQ4_NL.gguf \
    -ngl 999 \
    --port 8086 \
    --host 127.0.0.1 \
    -c 4096
