#!/bin/bash
source /opt/sglang/venv/bin/activate
export CUDA_VISIBLE_DEVICES=0
MODEL_PATH=$(python3 -c "import json; print('first of config.json')")
exec python -m sglang.launch_server --model-path "$MODEL_PATH" --port 30000 --host 0.0.0.0 --sleep-on-idle
