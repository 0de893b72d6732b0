# moe-autotune beside an engine, in that engine's own image, so that its Triton is the files'.
#
#   docker build --build-arg ENGINE_IMAGE=vllm/vllm-openai:v0.33.0 --tag moe-autotune .
#   docker run --rm --gpus all --volume "$PWD:/work" moe-autotune run --model Qwen/Qwen3-30B-A3B
#
# SGLang: --build-arg ENGINE_IMAGE=lmsysorg/sglang:v0.5.23. The storage and the files are in /work.
ARG ENGINE_IMAGE=vllm/vllm-openai:v0.33.0
FROM ${ENGINE_IMAGE}
ENV PIP_BREAK_SYSTEM_PACKAGES=1
COPY . /src
# The engine and what its kernels run on must stay as they are.
RUN python3 -m pip list --format=freeze \
        | grep --extended-regexp '^(numpy|sglang|torch|transformers|triton|vllm)==' > /tmp/keep.txt \
    && python3 -m pip install --no-cache-dir --constraint /tmp/keep.txt '/src[all]' \
    && rm -r /src /tmp/keep.txt
WORKDIR /work
ENTRYPOINT ["python3", "-m", "autotune"]
CMD ["--help"]
