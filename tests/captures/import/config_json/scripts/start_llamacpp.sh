#!/bin/bash
MODEL_PATH=$(python3 -c "import json; print('first of config.json')")
cd /opt/llama.cpp/build
exec ./bin/llama-server -m "$MODEL_PATH" -ngl 999 --port 8085 --host 0.0.0.0 -c 8192
