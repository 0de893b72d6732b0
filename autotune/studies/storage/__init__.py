"""Optuna's storages: opened, written in transactions, read quickly, looked after.

All that touches Optuna's private names and tables is here, tried with one version (``open.TRIED``).

``url``               the text of ``--storage``, parsed, without its password
``open``              opening a storage of any kind; the check of Optuna's version
``filesystems``       disks on which SQLite's locks do not hold
``retry``             the errors that a storage may raise, and trying again
``database``          SQLite and PostgreSQL: opening, and Optuna's storage with a quicker reading
``schema``            Optuna's tables: found, made once, their version
``tables``            Optuna's private tables, by name
``journal``           Optuna's journal: a file that survives its writers, and its transactions
``transactions``      the moments of a trial that are kept whole: the protocol and its types
``rdb_transactions``  the same in a database, by SQL
``handles``           ids, storage and transactions of a study, for the rest of autotune
``summaries``         every study in a handful of queries, while others write
``maintenance``       check, backup, upgrade
"""
