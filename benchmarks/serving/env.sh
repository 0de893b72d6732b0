# . env.sh SITE vllm | sglang: what a server of pack.py's packages needs, for want of what packages.txt leaves out.
export PYTHONPATH=$1 HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1
if [ "$2" = vllm ]; then
  export VLLM_USE_FLASHINFER_SAMPLER=0 VLLM_ALLREDUCE_USE_SYMM_MEM=0
else
  export SGLANG_SKIP_SGL_KERNEL_VERSION_CHECK=1 SGLANG_IS_FLASHINFER_AVAILABLE=false SGLANG_ENABLE_JIT_DEEPGEMM=0
fi
