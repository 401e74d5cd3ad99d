#!/usr/bin/env bash
# Serve a folder that minicoder wrote (or a released one) to OpenAI's clients:
#
#     bash cluster/serve.sh vllm   lite /data/coder/lite_16b
#     bash cluster/serve.sh sglang full /data/coder/full_236b --port 9000
#
# lite: 1 GPU of 80 GB. The bfloat16 weights take 29.3 GiB, a text of 131,072 tokens 3.8.
# full: 8 GPUs of 80 GB. Weights take 56 GiB of each (latent projections and routers lie
#       whole in all); the latent cache is the same on all: 2.1 GiB for a text of
#       32,768 tokens, 8.4 for 131,072 (--max-model-len 131072 or --context-length
#       131072 at the end asks for them).
# Both engines know the architecture DeepseekV2ForCausalLM: no remote code is run. They
# listen to this machine alone; --host 0.0.0.0 at the end lets everybody ask.
set -euo pipefail
usage="Usage: bash cluster/serve.sh vllm|sglang lite|full FOLDER [more flags]"
engine=${1:?$usage} size=${2:?$usage} folder=${3:?$usage}
shift 3

case $size in
    lite) gpus=1 window=131072 ;;
    full) gpus=8 window=32768 ;;
    *) echo "$usage" >&2; exit 2 ;;
esac
for file in config.json tokenizer.json; do
    if [ ! -f "$folder/$file" ]; then
        echo "serve: $folder has no $file: it is not a finished checkpoint" >&2
        exit 2
    fi
done

case $engine in
    vllm)
        exec vllm serve "$folder" --served-model-name minicoder --dtype bfloat16 \
            --tensor-parallel-size "$gpus" --max-model-len "$window" \
            --gpu-memory-utilization 0.92 --host 127.0.0.1 --port 8000 "$@" ;;
    sglang)
        exec python -m sglang.launch_server --model-path "$folder" \
            --served-model-name minicoder --dtype bfloat16 --tp "$gpus" \
            --context-length "$window" --mem-fraction-static 0.88 \
            --host 127.0.0.1 --port 8000 "$@" ;;
    *) echo "$usage" >&2; exit 2 ;;
esac
