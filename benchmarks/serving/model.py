"""Makes a folder that an engine serves with random weights: a published config and a tokenizer.

python benchmarks/serving/model.py CONFIG_FOLDER OUTPUT_FOLDER [--block-fp8]

No checkpoint and no hub is needed (``--load-format dummy``). The tokenizer has one word for each
id, so that a prompt of N words is a prompt of N tokens, also after decoding and encoding again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

BLOCK_FP8 = {
    "quant_method": "fp8",
    "fmt": "e4m3",
    "activation_scheme": "dynamic",
    "weight_block_size": [128, 128],
}
"""What Qwen publishes for its FP8 models, beside the list of layers that stay bf16."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config_folder", type=Path)
    parser.add_argument("output_folder", type=Path)
    parser.add_argument("--block-fp8", action="store_true", help="as <model>-FP8 is published")
    flags = parser.parse_args()
    config = json.loads((flags.config_folder / "config.json").read_text())
    if flags.block_fp8:
        gates = [f"model.layers.{i}.mlp.gate" for i in range(config["num_hidden_layers"])]
        config["quantization_config"] = BLOCK_FP8 | {"modules_to_not_convert": ["lm_head", *gates]}
    flags.output_folder.mkdir(parents=True, exist_ok=True)
    _write(flags.output_folder / "config.json", config)
    words = {f"w{i}": i for i in range(config["vocab_size"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(flags.output_folder / "tokenizer.json"))
    _write(
        flags.output_folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 40960},
    )
    print(f"{flags.output_folder}: config.json, tokenizer.json, tokenizer_config.json")


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
