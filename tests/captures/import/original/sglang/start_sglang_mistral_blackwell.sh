#!/bin/bash
# Mistral-Large-Instruct-2411-AWQ on one GPU

source /home/user/sglang/sglang-env/bin/activate

export CUDA_VISIBLE_DEVICES=0

exec python -m sglang.launch_server --sleep-on-idle \
    --model-path /home/user/models/Mistral-Large-Instruct-2411-AWQ \
    --host 127.0.0.1 \
    --port 30000 \
    --tp 1 \
    --attention-backend triton \
    --served-model-name mistral-large-2411-awq \
    --mem-fraction-static 0.88 \
    --chunked-prefill-size 8192 \
    --log-level info
