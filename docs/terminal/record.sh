#!/usr/bin/env bash
# Writes 80.txt and 200.txt beside this file: what terminals of so many columns show (needs tmux).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
layer="--model Qwen/Qwen3-30B-A3B --device replay:qwen3.npz --batch-size 16 256 4096"
commands=(
  "run $layer --trials 20"
  status
  best
  "bench $layer"
  "run $layer --trials 40 --dry-run"
)
session=autotune-$$
folder=/tmp/tuned  # short, and the same in every text
for columns in 80 200; do
  mkdir "$folder"
  ln -s "$root/benchmarks/landscapes/qwen3-30b-a3b_tp1_bf16.npz" "$folder/qwen3.npz"
  {
    echo "export PYTHONPATH=$root"
    for words in "${commands[@]}"; do
      echo "echo '\$ python -m autotune $words'; python -m autotune $words; echo"
    done
    echo "tmux -L $session wait-for -S done; sleep 600"
  } > "$folder/commands.sh"
  tmux -L "$session" -f /dev/null new-session -d -x "$columns" -y 200 -c "$folder" bash commands.sh
  tmux -L "$session" wait-for done
  tmux -L "$session" capture-pane -p | sed -e 's/ *$//' | cat -s > "$here/$columns.txt"
  tmux -L "$session" kill-server
  rm -r "$folder"
done
