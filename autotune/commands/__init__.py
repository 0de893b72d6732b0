"""The commands of the command line: a file for each, under its name.

Each has ``Flags``, a frozen dataclass, and ``run(flags, output)``; ``registry`` lists them with
their help.

| file | holds |
|---|---|
| registry | every command's name and help |
| command_line | the whole command line as typer's, which imports a command when it is called |
| flag_command | from classes of flags to a command of typer's, and back to their instances |
| flag_fields | a class of flags taken apart into its fields |
| flag_words | the words of a command: which are flags, and which stand behind one |
| flag_kinds | flags that take many words, or know some, or name paths |
| config_file | ``autotune.toml``: flags that are given again and again |
| model_flags | flags that name a layer, and the settings made from them |
| flags | other groups of flags that several commands share, and a run's settings |
| batch_sizes | ``--batch-size``: numbers, or ``auto:FILE`` |
| several_models | ``--model A B:tp-size=8``: the settings of each |
| dry_run | what ``run`` would do |
| storage_flag | ``--storage``, and ``--model`` that chooses studies in it |
| output | results to stdout, notes to stderr, ``--json`` |
| look | one look at a storage, or again and again with ``--watch``: ``status`` and ``best`` |
| doctor_log | ``doctor --server-log`` |
| missing_files | the command that makes a file that a server missed |
| storage | the three actions of ``storage``: check, backup, upgrade |
"""
